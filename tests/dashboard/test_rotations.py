"""The pages of rotations: one click, each step with its time, and how a secret is rotated."""

import html
import json
import re
from datetime import timedelta

from apps.secrets.selectors.rotations import plan_find, rotation_list
from apps.secrets.services.rotation_plans import rotation_configure
from apps.secrets.services.rotation_schedule import rotations_advance
from controlplane.lib import clock
from tests.clients import Client
from tests.conftest import ADMIN
from tests.dashboard.conftest import SignedIn
from tests.dashboard.test_overview import tile, words
from tests.dashboard.test_pipelines import errors_of, send
from tests.secrets.conftest import VALUE, secret_made

FRIDAYS = {"every_days": 30, "at": "03:00", "weekday": "friday", "zone": "Europe/Berlin"}


def planned() -> None:
    secret_made()
    rotation_configure(actor=ADMIN, secret_id="PYPI_TOKEN", rotator="generated", schedule=FRIDAYS)


def test_one_click_rotates_and_the_page_has_every_step_with_its_time(operator: Client) -> None:
    planned()
    page = operator.get("/dashboard/secrets/PYPI_TOKEN").text
    assert "every 30 days, Friday 03:00 (Europe/Berlin)" in words(page)
    assert 'id="rotate"' in page
    status, address = send(operator, "secrets/PYPI_TOKEN/rotate")
    assert (status, address.rpartition("/")[0]) == (302, "/dashboard/rotations")
    # A second click leads to the secret's page, which names the rotation that goes on.
    assert send(operator, "secrets/PYPI_TOKEN/rotate") == (302, "/dashboard/secrets/PYPI_TOKEN")
    page = operator.get("/dashboard/secrets/PYPI_TOKEN").text
    assert f"The rotation {address.rpartition('/')[2]} of this secret goes on" in words(page)
    assert 'id="rotate"' not in page
    rotations_advance(seconds=9)
    page = operator.get(address).text
    rows = [words(row) for row in re.findall(r"<tr>\s*<th scope=\"row\".*?</tr>", page, re.DOTALL)]
    assert [row.split()[0] for row in rows] == ["Prepare", "Make", "Apply", "Verify", "Activate", "Commit", "Retire"]
    assert all(re.search(r"Done \d+ \w+ \d{4}, \d\d:\d\d:\d\d UTC", row) for row in rows[:5]), rows
    assert ["To do" in row for row in rows[5:]] == [True, True]
    assert VALUE not in page
    # Its live part refreshes itself. What can no longer be stopped is no longer offered to be.
    assert 'id="stop"' not in page
    assert f'hx-get="{address}?seen=hasten"' in page
    asked = (f"{address}?seen={seen}" for seen in ("stop hasten", "hasten"))
    refreshed = [operator.get(each, headers={"HX-Request": "true"}).text for each in asked]
    assert words(refreshed[0]).startswith("State Overlap")
    assert words(refreshed[0]).endswith("Do not wait for the overlap")
    assert [("hx-swap-oob" in part, 'id="stop"' in part) for part in refreshed] == [(True, False), (False, False)]


def test_a_rotation_is_stopped_or_hastened_on_its_page(operator: Client) -> None:
    planned()
    _, address = send(operator, "secrets/PYPI_TOKEN/rotate")
    path = address.removeprefix("/dashboard/")
    assert send(operator, f"{path}/stop") == (302, address)
    rotations_advance(seconds=9)
    (stopped,) = rotation_list("PYPI_TOKEN").rotations
    assert (stopped.state, stopped.reason) == ("failed", "Operator stopped it.")
    _, address = send(operator, "secrets/PYPI_TOKEN/rotate")
    path = address.removeprefix("/dashboard/")
    assert send(operator, f"{path}/hasten") == (302, address)
    rotations_advance(seconds=9)
    rotations_advance(seconds=9)
    assert rotation_list("PYPI_TOKEN").rotations[0].state == "completed"
    assert send(operator, f"{path}/stop")[0] == 409


def test_the_pages_of_secrets_say_that_a_rotation_is_late_or_has_failed(operator: Client) -> None:
    planned()
    assert 'id="alarming"' not in operator.get("/dashboard/secrets").text
    assert next_shown(operator).startswith("in ")
    plan = plan_find("PYPI_TOKEN")
    plan.due_at = clock.timestamp(clock.now() - timedelta(hours=2))
    plan.save()
    assert "Rotations have failed or are late: PYPI_TOKEN" in words(operator.get("/dashboard/secrets").text)
    assert next_shown(operator) == "2 h ago Late"


def next_shown(operator: Client) -> str:
    page = operator.get("/dashboard/secrets/PYPI_TOKEN").text
    return words(re.search(r'id="rotation-next">(.*?)</dd>', page, re.DOTALL)[1])


def test_an_admin_configures_a_rotation_as_json(signed_in: SignedIn, operator: Client) -> None:
    secret_made()
    assert operator.get("/dashboard/secrets/PYPI_TOKEN/rotation").status_code == 403
    admin = signed_in("admin")
    shown = admin.get("/dashboard/secrets/PYPI_TOKEN/rotation").text
    document = json.loads(html.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", shown, re.DOTALL)[1]))
    for wrong, message in (
        ("{", "This must be JSON."),
        ("[]", "This must be an object with"),
        (json.dumps({**document, "overlap_minutes": "1"}), "overlap_minutes a whole number"),
        (json.dumps({**document, "config": {"length": 3}}), "config.length: must be a number of characters"),
    ):
        status, page = send(admin, "secrets/PYPI_TOKEN/rotation", configuration=wrong)
        assert (status, message in errors_of(page, "configuration")) == (422, True), page
    assert send(admin, "secrets/PYPI_TOKEN/rotation", configuration=json.dumps(document))[0] == 302
    plan = plan_find("PYPI_TOKEN")
    assert (plan.rotator, plan.schedule["weekday"]) == ("generated", "friday")
    assert send(admin, "secrets/PYPI_TOKEN/unrotate")[0] == 302
    assert plan_find("PYPI_TOKEN") is None


def test_the_overview_says_when_the_next_rotation_is(operator: Client, viewer: Client) -> None:
    assert "no secret has a schedule" in operator.get("/dashboard/latest").text
    secret_made()
    daily = {"every_days": 2, "at": "03:00", "zone": "UTC"}
    rotation_configure(actor=ADMIN, secret_id="PYPI_TOKEN", rotator="generated", schedule=daily)
    shown, address = tile(operator.get("/dashboard/latest").text, "rotation")
    assert shown in ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    assert address == "/dashboard/secrets/PYPI_TOKEN"
    for page in ("", "latest"):
        assert "Next secret rotation" not in viewer.get(f"/dashboard/{page}").text
