"""Rotations in the admin: their steps are shown, and neither values nor configurations."""

import re
from html import unescape

import pytest
from django.contrib.admin.utils import quote

from apps.secrets.models import RotationPlan
from apps.secrets.selectors.rotations import rotation_get
from apps.secrets.services import secret_create, version_value
from apps.secrets.services.rotation_plans import rotation_configuration_delete, rotation_configure
from apps.secrets.services.rotations import secret_rotate
from tests.admin.conftest import Browser, SignIn, keys, rows
from tests.conftest import ADMIN, OPERATOR
from tests.metering import dynamodb_calls
from tests.secrets.conftest import _systems as _systems
from tests.secrets.conftest import systems as systems
from tests.secrets.rotations import ID, OLD, begun, planned, settled, sweep, vault
from tests.secrets.systems import VAULT_TOKEN, Systems

ROTATIONS = "/admin/secrets/rotation/"


@pytest.fixture
def auditor(sign_in: SignIn) -> Browser:
    return sign_in("auditor")


def listed(page: str) -> list[str]:
    return [row.split()[0] for row in rows(page)]


def rotated(name: str, times: int) -> list[str]:
    """A secret that was rotated so many times; the ids of its rotations, the newest first."""
    secret_create(actor=OPERATOR, name=name, value="the first value of it")
    rotation_configure(actor=ADMIN, secret_id=name, rotator="generated", config={}, targets=[], overlap_minutes=5)
    made = [settled(secret_rotate(actor=OPERATOR, secret_id=name), minutes=1) for _ in range(times)]
    return [str(rotation.rotation_id) for rotation in made[::-1]]


def path_of(rotation_id: str, page: str = "change") -> str:
    return f"{ROTATIONS}{quote(rotation_id)}/{page}/"


def test_rotations_are_listed_by_secret_newest_first(auditor: Browser, systems: Systems) -> None:
    a, b, c = (rotated(name, times) for name, times in (("A_KEY", 3), ("B_KEY", 1), ("C_KEY", 2)))
    secret_create(actor=OPERATOR, name="NEVER_ROTATED", value="a value without a plan")
    page = auditor.page(ROTATIONS)
    assert listed(page) == [*c, *b, *a]
    assert "from Z to A" in page
    assert keys(page) == []
    assert re.search(r"C_KEY completed - [\d: -]+ operator -$", rows(page)[0]), rows(page)[0]
    assert listed(auditor.page(ROTATIONS, params={"q": "a_key"})) == a
    assert listed(auditor.page(ROTATIONS, params={"q": "A_KE"})) == []
    # Its rotations stay readable.
    rotation_configuration_delete(actor=ADMIN, secret_id="B_KEY")
    assert listed(auditor.page(ROTATIONS)) == [*c, *a]
    assert listed(auditor.page(ROTATIONS, params={"q": "B_KEY"})) == b


def test_the_list_goes_on_page_by_page_and_back(
    auditor: Browser, systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.secrets.admin.RotationAdmin.list_per_page", 2)
    a, b = rotated("A_KEY", 3), rotated("B_KEY", 2)
    found: list[str] = []
    pages: list[str] = []
    path = ROTATIONS
    while path and len(pages) < 9:
        pages.append(auditor.page(path))
        found += listed(pages[-1])
        more = re.search(r'href="(\?p=[^"]+)"[^>]*rel="next"', pages[-1])
        path = ROTATIONS + unescape(more[1]) if more else ""
    assert found == [*b, *a]
    back = re.search(r'href="(\?p=[^"]+)"[^>]*rel="prev"', pages[1])
    assert back
    assert listed(auditor.page(ROTATIONS + unescape(back[1]))) == listed(pages[0])


def test_a_page_asks_for_the_secrets_their_plans_and_a_query_for_each_that_was_rotated(
    auditor: Browser, systems: Systems
) -> None:
    rotated("A_KEY", 2)
    rotated("B_KEY", 1)
    auditor.page(ROTATIONS)
    for query, own in (
        ("", ["Query", "BatchGetItem", "Query", "Query"]),
        ("?q=A_KEY", ["Query"]),
        ("?due=open", ["Query"]),
    ):
        with dynamodb_calls() as counted:
            auditor.page(ROTATIONS + query)
        assert counted.operations[-len(own) :] == own, query
        assert counted.calls <= len(own) + 2


def test_rotations_that_have_not_ended_are_found_by_their_index(auditor: Browser, systems: Systems) -> None:
    planned([vault(systems)])
    settled(begun())
    systems.refuse = lambda _method, _path: (503, {})
    rotation = begun()
    sweep()
    (row,) = rows(auditor.page(ROTATIONS, params={"due": "open"}))
    assert row.startswith(f"{rotation.rotation_id} {ID} rotating prepare vault ")
    assert rotation_get(rotation.rotation_id).message in row
    assert rows(auditor.page(ROTATIONS, params={"due": "open", "q": "OTHER"})) == []
    assert len(rows(auditor.page(ROTATIONS, params={"due": "open", "q": ID}))) == 1
    assert len(rows(auditor.page(ROTATIONS, params={"q": ID}))) == 2


def test_a_rotation_is_shown_with_its_steps_and_without_values_and_configurations(
    admin: Browser, systems: Systems
) -> None:
    planned([vault(systems)])
    rotation = settled(begun())
    page = admin.page(path_of(rotation.rotation_id))
    assert re.search(r"apply vault: done \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", page)
    assert f'href="/admin/secrets/secret/{quote(ID)}/change/"' in page
    assert f'href="/dashboard/rotations/{rotation.rotation_id}"' in page
    assert 'name="_save"' not in page
    new = version_value(secret_id=ID, number=int(rotation.new_version))
    for path in (ROTATIONS, path_of(rotation.rotation_id), path_of(rotation.rotation_id, "history")):
        shown = admin.page(path)
        for hidden in (OLD, new, VAULT_TOKEN, systems.url):
            assert hidden not in shown, path
    secret = admin.page(f"/admin/secrets/secret/{quote(ID)}/change/")
    assert f'href="{ROTATIONS}?q={ID}"' in secret


def test_what_a_step_has_noted_is_not_shown(admin: Browser, systems: Systems) -> None:
    planned([vault(systems)])
    rotation = settled(begun())
    steps = [{**step, "notes": {"key": "noted by the step"}} for step in rotation_get(rotation.rotation_id).steps]
    stored = rotation_get(rotation.rotation_id)
    stored.steps = steps
    stored.save()
    assert "noted by the step" not in admin.page(path_of(rotation.rotation_id))


def test_the_history_of_a_rotation_is_its_own_part_of_the_secrets(auditor: Browser, systems: Systems) -> None:
    second, first = rotated("A_KEY", 2)
    for rotation_id in (first, second):
        history = rows(auditor.page(path_of(rotation_id, "history")))
        assert "rotation completed" in history[0]
        assert "rotation started" in history[-1]
        entry = rotation_id.partition(".")[2]
        assert all(f"rotation {entry}" in line for line in history)


@pytest.mark.parametrize("key", ["x", "A_5FKEY.plan", "A_5FKEY.01ka0000000000000000000000", "A_5FKEY"])
def test_a_rotation_that_does_not_exist_leads_to_the_list(auditor: Browser, systems: Systems, key: str) -> None:
    rotated("A_KEY", 1)
    assert RotationPlan.find("A_KEY", "plan")
    assert "This rotation does not exist." in auditor.said(auditor.get(f"{ROTATIONS}{key}/change/"))


def test_no_rotation_is_added_changed_or_deleted_here(admin: Browser, systems: Systems) -> None:
    (rotation_id,) = rotated("A_KEY", 1)
    for path in (f"{ROTATIONS}add/", path_of(rotation_id, "delete")):
        assert admin.get(path).status_code == 403
    assert admin.post(path_of(rotation_id), data={"state": "failed"}).status_code == 403
