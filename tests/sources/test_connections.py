"""Connections: who makes them, what no answer shows, and secrets that are shown once."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.cache import cache

from apps.audit.selectors import audit_search
from apps.sources.models import SPACE, Connection
from apps.sources.selectors import connection_get
from apps.sources.services import connection_change, connection_create, connection_secret_rotate
from apps.sources.services import connections as services
from controlplane.lib import clock
from controlplane.lib.envelope import DecryptionFailed
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR
from tests.emulator import items_read, items_replace
from tests.interleaving import every_order
from tests.properties.consistency import Items
from tests.sources.hooks import SECRET, bound, connected

TOKEN = "glpat-a-token-of-the-provider"


def test_a_connection_shows_its_webhook_secret_once_and_its_token_never(admin: Client) -> None:
    answer = admin.post("/connections", json={"connection_id": "lab", "provider": "gitlab", "token": TOKEN})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["webhook_path"], made["has_token"], made["api_url"]) == (
        "/webhooks/gitlab/lab",
        True,
        "https://gitlab.com/api/v4",
    )
    secret = made["webhook_secret"]
    assert len(secret) >= 40
    others = [admin.get(path).text for path in ("/connections", "/connections/lab", "/audit?target=connection:lab")]
    stored = str(Items().of(Connection))
    assert not [text for text in [*others, stored] if secret in text or TOKEN in text]
    connection = connection_get("lab")
    assert (connection.secret("webhook_secret"), connection.secret("token")) == (secret, TOKEN)


def test_a_secret_that_was_moved_does_not_open(tables: None) -> None:
    connected("first")
    connected("second")
    moved = connection_get("first")
    moved.encrypted_webhook_secret = connection_get("second").encrypted_webhook_secret
    with pytest.raises(DecryptionFailed):
        moved.secret("webhook_secret")
    moved.encrypted_token = connection_get("first").encrypted_webhook_secret
    with pytest.raises(DecryptionFailed):
        moved.secret("token")


def test_a_rotation_shows_the_new_secret_once_and_ends_the_one_before_the_last(admin: Client) -> None:
    connected()
    first = admin.post("/connections/hub/webhook-secret", json={}).json()
    with clock.shifted(timedelta(hours=1)):
        second = admin.post("/connections/hub/webhook-secret", json={}).json()
    assert first["webhook_secret"] != second["webhook_secret"]
    assert second["previous_webhook_secret_until"]
    connection = connection_get("hub")
    assert connection.secret("webhook_secret") == second["webhook_secret"]
    assert connection.secret("previous_webhook_secret") == first["webhook_secret"]
    leaked = admin.post("/connections/hub/webhook-secret", json={"leaked": True}).json()
    assert leaked["previous_webhook_secret_until"] is None
    assert connection_get("hub").secret("previous_webhook_secret") is None
    actions = [event.action for event in audit_search(target="connection:hub").records]
    assert actions.count("connection.webhook_secret_rotated") == 3


def test_a_rotation_whose_answer_was_lost_may_be_repeated_without_locking_out_the_provider(tables: None) -> None:
    connected()
    connection_secret_rotate(actor=ADMIN, connection_id="hub")
    again = connection_secret_rotate(actor=ADMIN, connection_id="hub")
    connection = connection_get("hub")
    assert connection.secret("webhook_secret") == again.webhook_secret
    assert connection.secret("previous_webhook_secret") == SECRET


@pytest.mark.nightly
def test_two_rotations_at_once_make_one_or_two_secrets_of_which_the_last_counts(tables: None, emulator: str) -> None:
    connected()
    prepared = items_read(emulator)
    rotate = partial(connection_secret_rotate, actor=ADMIN, connection_id="hub")
    for order in every_order():
        items_replace(emulator, prepared)
        cache.clear()
        made = [one for one in order.race(rotate, rotate) if hasattr(one, "webhook_secret")]
        assert connection_get("hub").secret("webhook_secret") in [one.webhook_secret for one in made]


def test_a_connection_is_changed_member_by_member(admin: Client) -> None:
    connected(provider="gitea")
    body = {"name": "Our Forgejo", "api_url": "https://git.example.com/api/v1/", "token": TOKEN}
    changed = admin.request("PATCH", "/connections/hub", json=body).json()
    assert (changed["name"], changed["api_url"], changed["has_token"], changed["revision"]) == (
        "Our Forgejo",
        "https://git.example.com/api/v1",
        True,
        2,
    )
    assert admin.request("PATCH", "/connections/hub", json=body).json()["revision"] == 2
    emptied = admin.request("PATCH", "/connections/hub", json={"token": None, "name": None}).json()
    assert (emptied["name"], emptied["has_token"], emptied["api_url"]) == ("hub", False, changed["api_url"])
    details = [event.detail for event in audit_search(target="connection:hub").records if "token" in event.detail]
    assert [detail["token"] for detail in details] == ["removed", "replaced"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"connection_id": "Not Small", "provider": "github"}, "connection_id"),
        ({"connection_id": "hub", "provider": "bitbucket"}, "provider"),
        ({"connection_id": "hub", "provider": "gitea", "api_url": "ftp://x"}, "api_url"),
        ({"connection_id": "hub", "provider": "gitea", "api_url": "https://me:secret@x/"}, "api_url"),
        ({"connection_id": "hub", "provider": "gitea", "web_url": "https://x:99999999"}, "web_url"),
        ({"connection_id": "hub", "provider": "gitea", "token": "a\u0007b"}, "token"),
        ({"connection_id": "hub", "provider": "gitea", "name": "a\nb"}, "name"),
        ({"connection_id": "hub", "provider": "gitea", "nonsense": 1}, "nonsense"),
    ],
)
def test_a_wrong_member_is_named(admin: Client, body: dict[str, Any], field: str) -> None:
    answer = problem(admin.post("/connections", json=body), 400, "invalid_input")
    assert answer["errors"][0]["field"] == field


def test_a_connection_with_pipelines_is_not_deleted(admin: Client) -> None:
    connected()
    bound()
    assert "web" in problem(admin.delete("/connections/hub"), 409, "connection_in_use")["detail"]
    answer = admin.put("/pipelines/web", json={"repository": "https://github.com/acme/shop.git", "source": ""})
    assert (answer.status_code, answer.json()["source"]) == (200, None)
    assert admin.delete("/connections/hub").status_code == 204
    problem(admin.get("/connections/hub"), 404, "connection_not_found")


def test_a_pipeline_keeps_its_connection_when_it_is_saved_without_one(admin: Client) -> None:
    connected()
    bound()
    saved = admin.put("/pipelines/web", json={"repository": "https://github.com/acme/shop.git", "default_ref": "next"})
    assert (saved.json()["source"], saved.json()["source_repository"]) == ("hub", "acme/shop")
    body = {"repository": "https://github.com/acme/shop.git", "source_repository": "acme/shop"}
    problem(admin.put("/pipelines/web", json=body), 400, "invalid_input")


def test_an_id_is_taken_once_and_there_is_a_limit(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    connected()
    with pytest.raises(Conflict, match="another id"):
        connected()
    monkeypatch.setattr(services, "MAX_CONNECTIONS", 1)
    with pytest.raises(Conflict, match="Delete one"):
        connected("second")


def test_only_an_admin_makes_connections_and_a_stale_change_is_refused(tables: None) -> None:
    with pytest.raises(Forbidden):
        connection_create(actor=OPERATOR, connection_id="hub", provider="github")
    connected()
    connection_change(actor=ADMIN, connection_id="hub", name="One")
    with pytest.raises(Conflict, match="Another user"):
        connection_change(actor=ADMIN, connection_id="hub", name="Two", revision=1)
    assert Connection.get(SPACE, "hub").name == "One"


def test_credentials_for_one_server_cannot_be_sent_to_another_by_changing_its_address(tables: None) -> None:
    connection_create(
        actor=ADMIN,
        connection_id="hub",
        provider="gitea",
        api_url="https://git.example.com/api/v1",
        web_url="https://git.example.com",
        token=TOKEN,
    )
    elsewhere: tuple[dict[str, Any], ...] = (
        {"api_url": "https://evil.example/api/v1"},
        {"web_url": "https://evil.example"},
        {"api_url": "https://git.example.com:8443/api/v1"},
    )
    for members in elsewhere:
        with pytest.raises(InvalidInput, match="must stay on the same server, or come with the token for the new one"):
            connection_change(actor=ADMIN, connection_id="hub", **members)
    assert (
        connection_change(actor=ADMIN, connection_id="hub", api_url="https://git.example.com/forge/api/v1").revision
        == 2
    )
    # Not by way of no address, either.
    with pytest.raises(InvalidInput, match="must stay on the same server"):
        connection_change(actor=ADMIN, connection_id="hub", api_url=None)
    moved: dict[str, Any] = {
        "api_url": "https://forge.example/api/v1",
        "web_url": "https://forge.example",
        "token": TOKEN,
    }
    assert connection_change(actor=ADMIN, connection_id="hub", **moved).api_url == "https://forge.example/api/v1"
    with pytest.raises(InvalidInput, match="must be an https URL"):
        connection_change(actor=ADMIN, connection_id="hub", api_url="http://forge.example/api/v1")
