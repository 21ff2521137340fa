"""The function's permissions are exactly the actions that its code performs."""

import re
from contextlib import suppress
from datetime import timedelta

import pytest
from django.test import override_settings

from apps.accounts.identities import ProviderIdentity
from apps.accounts.selectors import api_token_get, user_by_email
from apps.accounts.selectors.device_authorizations import device_authorization_find
from apps.accounts.services import api_token_create, identity_link, invitation_create, user_create
from apps.accounts.services.api_tokens import api_token_revoke
from apps.accounts.services.device_authorizations import (
    device_authorization_create,
    device_authorization_decide,
    device_authorization_redeem,
)
from apps.accounts.services.oauth_states import oauth_state_add, oauth_state_consume
from apps.accounts.services.rate_limits import password_attempt_reserve
from apps.agents.services import enrolment_token_create, enrolment_token_revoke
from apps.audit.selectors.trail import TrailSearch
from apps.audit.services.holds import hold_place, hold_release, holds_copy
from apps.audit.services.sealing import audit_seal, audit_seals_copy
from apps.audit.services.shipping import audit_ship
from apps.jobs.services import events_work, job_create, schedules_start
from apps.notifications.selectors import deliveries as notification_deliveries
from apps.notifications.selectors.outbox import failed_items
from apps.notifications.selectors.targets import rule_list, target_list
from apps.notifications.services import (
    delivery_send,
    outbox_run,
    rule_create,
    rule_delete,
    target_change,
    target_create,
    target_delete,
)
from apps.notifications.states import TargetKind
from apps.pipelines.services import schedule_create
from apps.secrets.selectors.rotations import rotation_list
from apps.secrets.services import secret_create
from apps.secrets.services.rotation_plans import rotation_configuration_delete, rotation_configure
from apps.secrets.services.rotation_schedule import rotations_advance
from apps.secrets.services.rotations import secret_rotate
from apps.sources.selectors import delivery_list
from apps.sources.selectors.checks import checks_sent
from apps.sources.services.checks import Check, check_show
from controlplane.infrastructure.access import TABLE_ACCESS
from controlplane.infrastructure.schema import table_schemas
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import ApplicationError, Unavailable
from tests.access import Use, access_recorded
from tests.audit.trail import event, write
from tests.clients import Client
from tests.conftest import ADMIN, PASSWORD
from tests.contract.test_access import filled, session_of, table
from tests.faults import (
    test_accounts,
    test_agents,
    test_archives,
    test_deployments,
    test_events,
    test_jobs,
    test_notifications,
    test_runs,
    test_schedules,
    test_secrets,
)
from tests.faults.scenarios import first_world
from tests.faults.world import World
from tests.jobs.runs import Worker, graph_pipeline
from tests.jobs.test_results import done, started
from tests.notifications.conftest import happen
from tests.notifications.test_announcing import ended
from tests.notifications.test_outbox_work import add
from tests.sources.conftest import connection_of
from tests.sources.fake_provider import FakeProvider
from tests.sources.hooks import connected, github_push, send

NOTHING = "01kaadmin00000000000000000"
FAULTS = (
    test_accounts,
    test_agents,
    test_archives,
    test_deployments,
    test_events,
    test_jobs,
    test_notifications,
    test_runs,
    test_schedules,
    test_secrets,
)
SEARCHES = [
    "/jobs?status=failed",
    f"/jobs?agent_id={NOTHING}",
    "/runs?status=running",
    "/admin/agents/agent/?q=build",
    "/admin/accounts/user/?q=admin",
    "/admin/accounts/apitoken/?q=tour",
    "/deployments?environment=production",
    f"/audit?target=agent:{NOTHING}",
    f"/audit?actor=agent:{NOTHING}",
    "/audit?action=job.created",
    "/audit/export?action=job.created&format=csv",
    "/dashboard/secrets/REPORTED",
]


def the_tour(server: str) -> None:
    """Performs every act of the fault tests, and requests every page and list."""
    for module in FAULTS:
        for scenario in module.scenario:
            with first_world().again() as world:
                act = scenario.prepare(world)
                with suppress(ApplicationError):
                    act()
    world = World()
    try:
        _visit(server, world)
    finally:
        world.close()


def _visit(server: str, world: World) -> None:
    job_id, run_id = world.ended(), _reuse(world)
    user = user_create(email="tour@example.com", password=PASSWORD, name="tour", role="admin", actor=SYSTEM)
    invitation_create(email="invited@example.com", role="viewer", actor=SYSTEM)
    identity_link(
        actor=Actor("user", user.user_id, user.name), identity=ProviderIdentity("google", "tour", None, "tour")
    )
    _outbox()
    token, secret = api_token_create(user=user, name="tour", actor=SYSTEM)
    Client(server, secret).get("/jobs")
    Client(server, secret).post("/secrets", json={"name": "REPORTED", "value": "a value of the tour"})
    browser = session_of(server, user)
    for route in table():
        method, path = route.split(" ")
        if method == "GET":
            answer = browser.get(filled(path.replace("{job_id}", job_id).replace("{run_id}", run_id), world.agent.id))
            for page in re.findall(r'href="(/admin/[^"?]+/change/)"', answer.text)[:1]:
                browser.get(page)
                browser.get(page.replace("/change/", "/history/"))
    for path in SEARCHES:
        browser.get(path)
    # The pipeline is deleted, so only the idempotency key has the first response.
    with suppress(ApplicationError):
        job_create(actor=ADMIN, pipeline="gone", idempotency_key="tour")
    asked = device_authorization_create(name="tour", address="192.0.2.1")
    open_one = device_authorization_find(asked.user_code)
    assert open_one is not None
    device_authorization_decide(
        authorization=open_one,
        is_allowed=True,
        actor=Actor("user", user.user_id, user.name, frozenset({"tokens.manage"})),
    )
    device_authorization_redeem(device_code=asked.device_code)
    password_attempt_reserve(address="192.0.2.1", email="tour@example.com").give_back()
    now = clock.epoch()
    oauth_state_add(scope="tour", made_at=now, state="state")
    oauth_state_consume(scope="tour", made_at=now, state="state")
    expires_at = clock.now() + timedelta(days=1)
    enrolment_token, _ = enrolment_token_create(uses=1, expires_at=expires_at, actor=ADMIN)
    enrolment_token_revoke(token=enrolment_token, actor=ADMIN)
    api_token_revoke(token=api_token_get(token.token_id), actor=ADMIN)
    user_by_email("tour@example.com")
    _holds_and_exports()
    _rotations()
    _outbox_end(browser)
    _checks()
    _webhooks(server)
    schedules_start(seconds=1)
    with clock.shifted(timedelta(hours=3)):
        audit_seal(seconds=5)
        audit_seals_copy(seconds=5)
    # The session's last use was a while ago, so its next use is recorded.
    with clock.shifted(timedelta(minutes=30)):
        browser.get("/dashboard/")
        for name in ("integrity", "rotations"):
            browser.get(f"/dashboard/reports/{name}?from={clock.now():%Y-%m-%d}&to={clock.now():%Y-%m-%d}")


def _holds_and_exports() -> None:
    """A legal hold with a copy, and a webhook that fails."""
    with override_settings(AUDIT_RETENTION={"job.": "100"}, AUDIT_EXPORT_URL="https://127.0.0.1/"):
        write([event("job:tour")])
        hold = hold_place(actor=ADMIN, reason="tour", search=TrailSearch(target="job:tour"))
        with clock.shifted(timedelta(hours=2)):
            holds_copy(seconds=5)
            hold_release(actor=ADMIN, hold_id=str(hold.hold_id))
            audit_seal(seconds=5)
            audit_ship(seconds=1)


def _webhooks(server: str) -> None:
    """A webhook with a wrong signature, one that cannot be read, and one that the sweep finds."""
    connected("tour")
    send(server, {}, connection="tour", secret="another")
    send(server, [], connection="tour")  # type: ignore[arg-type]
    send(server, github_push(), connection="tour")
    delivery_list("tour")
    delivery_list("tour", troubled=True)
    events_work(seconds=1)


def _rotations() -> None:
    """A secret that is rotated by schedule, then by hand, and then no more."""
    secret_id = str(secret_create(actor=ADMIN, name="TOUR_TOKEN", value="a value of the tour").secret_id)
    daily = {"every_days": 1, "at": "03:00"}
    rotation_configure(actor=ADMIN, secret_id=secret_id, rotator="generated", schedule=daily, overlap_minutes=0)
    secret_rotate(actor=ADMIN, secret_id=secret_id)
    for _ in range(2):
        rotations_advance(seconds=5)
    rotation_list(secret_id)
    rotation_configuration_delete(actor=ADMIN, secret_id=secret_id)


def _outbox() -> None:
    """A target that is changed and fails, and an item that fails for a day."""
    target = target_create(actor=ADMIN, name="tour", kind=TargetKind.WEBHOOK, url="https://hooks.example.com/")[0]
    target_id = str(target.target_id)
    with override_settings(OUTGOING_NETWORKS=["127.0.0.0/8"]):
        target_change(actor=ADMIN, target_id=target_id, url="https://127.0.0.1:1/")
    rule_create(actor=ADMIN, target_id=target_id, occasions=["failed"])
    happen()
    ended("failed")
    add("tour", 1)
    for hours in (0, 25):
        with clock.shifted(timedelta(hours=hours)):
            outbox_run({"delivery": delivery_send}, seconds=5)


def _admin_act(browser: Client, model: str, action: str, key: str) -> None:
    """Choose a row of a list of the admin, and act on it."""
    acted = browser.post(f"/admin/{model}/", data={"action": action, "_selected_action": key})
    assert (acted.status_code, "signin" in acted.headers["Location"]) == (302, False)


def _outbox_end(browser: Client) -> None:
    """In the admin, a schedule is paused, the target gets a test, and what failed is tried again.

    Then the rule and the target are deleted.
    """
    (target,), (rule,) = target_list(), rule_list()
    first = notification_deliveries.delivery_list(target_id=str(target.target_id)).deliveries[0]
    with clock.shifted(timedelta(hours=25)):
        failed = list(failed_items(clock.now()))
    schedule_create(actor=ADMIN, pipeline="self", name="tour", cron="0 3 * * *")
    _admin_act(browser, "pipelines/schedule", "pause", "self.tour")
    _admin_act(browser, "notifications/outboxitem", "retry", str(failed[0].entry))
    _admin_act(browser, "notifications/target", "test", str(target.target_id))
    _admin_act(browser, "notifications/delivery", "redeliver", str(first.delivery_id))
    rule_delete(actor=ADMIN, rule_id=str(rule.rule_id))
    target_delete(actor=ADMIN, target_id=str(target.target_id))


def _checks() -> None:
    """A check that its provider does not take, since nothing answers there."""
    provider = FakeProvider()
    provider.url = "http://127.0.0.1:9"
    check = Check("acme/shop", "c0ffee", "hybrid-ci/tour", "01tour", "queued")
    with suppress(Unavailable):
        check_show(
            connection_of(provider, "gitea", token="t"),
            check,
            run_id="01tour",
            turn=0,
            known=checks_sent("gitea", check.repository, check.commit),
        )


def _reuse(world: World) -> str:
    """A run whose jobs take the results of an earlier one. Its id."""
    graph_pipeline()
    worker = Worker(world.agent)
    done(worker, started(worker))
    return started(worker)


def test_the_role_allows_what_the_code_does_and_nothing_else(server: str) -> None:
    with access_recorded() as used:
        the_tour(server)
    allowed: set[Use] = {(name, action, None) for name, access in TABLE_ACCESS.items() for action in access.actions}
    allowed |= {(name, "Query", index) for name, access in TABLE_ACCESS.items() for index in access.indexes}
    assert used - allowed == set(), "add these to controlplane/infrastructure/access.py"
    assert allowed - used == set(), "the code does not use these in the tour; remove them"


def test_every_table_and_no_other_has_an_entry() -> None:
    assert set(TABLE_ACCESS) == {table.name for table in table_schemas()}


def test_the_emulator_refuses_an_action_without_an_entry(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TABLE_ACCESS, "pipelines")
    with pytest.raises(AssertionError, match="does not allow GetItem on pipelines"):
        job_create(actor=ADMIN, pipeline="self")
