"""The function's permissions are exactly the actions that its code performs."""

import re
from contextlib import suppress
from datetime import timedelta

import pytest

from apps.accounts.selectors import api_token_get, user_by_email
from apps.accounts.services import api_token_create, user_create
from apps.accounts.services.api_tokens import api_token_revoke
from apps.accounts.services.oauth_states import oauth_state_add, oauth_state_consume
from apps.accounts.services.rate_limits import sign_in_rate_limit
from apps.agents.services import enrolment_token_create, enrolment_token_revoke
from apps.jobs.services import job_create
from controlplane.infrastructure.access import TABLE_ACCESS
from controlplane.infrastructure.schema import table_schemas
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError
from tests.access import Use, access_recorded
from tests.clients import Client
from tests.conftest import ADMIN, PASSWORD
from tests.contract.test_access import filled, session_of, table
from tests.faults import test_accounts, test_agents, test_jobs
from tests.faults.world import World

NOTHING = "01kaadmin00000000000000000"
SEARCHES = [
    "/jobs?status=failed",
    f"/jobs?agent_id={NOTHING}",
    "/admin/agents/agent/?q=build",
    "/admin/accounts/user/?q=admin",
    "/admin/accounts/apitoken/?q=tour",
    f"/admin/audit/auditrecord/?target=agent:{NOTHING}",
]


def the_tour(server: str) -> None:
    """Performs every act of the fault tests, and requests every page and list."""
    for module in (test_accounts, test_agents, test_jobs):
        for scenario in module.scenario:
            world = World()
            try:
                act = scenario.prepare(world)
                with suppress(ApplicationError):
                    act()
            finally:
                world.close()
    world = World()
    try:
        _visit(server, world)
    finally:
        world.close()


def _visit(server: str, world: World) -> None:
    job_id = world.ended()
    user = user_create(email="tour@example.com", password=PASSWORD, name="tour", role="admin", actor=SYSTEM)
    token, secret = api_token_create(user=user, name="tour", actor=SYSTEM)
    Client(server, secret).get("/jobs")
    browser = session_of(server, user)
    for route in table():
        method, path = route.split(" ")
        if method == "GET":
            answer = browser.get(filled(path.replace("{job_id}", job_id), world.agent.id))
            for page in re.findall(r'href="(/admin/[^"?]+/change/)"', answer.text)[:1]:
                browser.get(page)
                browser.get(page.replace("/change/", "/history/"))
    for path in SEARCHES:
        browser.get(path)
    # The pipeline is deleted, so only the idempotency key has the first response.
    with suppress(ApplicationError):
        job_create(actor=ADMIN, pipeline="gone", idempotency_key="tour")
    sign_in_rate_limit(address="192.0.2.1", account="tour@example.com")
    now = clock.epoch()
    oauth_state_add(scope="tour", made_at=now, state="state")
    oauth_state_consume(scope="tour", made_at=now, state="state")
    expires_at = clock.now() + timedelta(days=1)
    enrolment_token, _ = enrolment_token_create(uses=1, expires_at=expires_at, actor=ADMIN)
    enrolment_token_revoke(token=enrolment_token, actor=ADMIN)
    api_token_revoke(token=api_token_get(token.token_id), actor=ADMIN)
    user_by_email("tour@example.com")
    # The session's last use was a while ago, so its next use is recorded.
    with clock.shifted(timedelta(minutes=30)):
        browser.get("/dashboard/")


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
