"""DynamoDB fails while a GitHub App is stored, a pipeline is made of a repository, and agents get credentials."""

from collections.abc import Iterator

import pytest

from agent.job_secrets import AttemptKey
from apps.jobs.services import Channel, job_create, start_fetch_access
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.queue import entry_of
from apps.pipelines.services import pipeline_save
from apps.secrets.services import secret_create
from apps.secrets.states import Scope
from apps.sources.services.github_apps import app_complete, repository_pipeline_create
from tests.conftest import ADMIN, OPERATOR
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World
from tests.jobs.runs import Worker
from tests.sources.conftest import app_connection
from tests.sources.fake_provider import FakeProvider, running_fake_provider

CODE = "f00d"

scenario = Scenarios()
# What the scenarios of a test ask.
_provider = FakeProvider()


@pytest.fixture(autouse=True, scope="module")
def provider() -> Iterator[None]:
    with running_fake_provider(_provider):
        _provider.app_add()
        _provider.repository_add("acme/shop")
        yield


@scenario(repeatable=False)
def store_an_app(_: World) -> Act:
    kept = {"state": "x", "connection_id": "hub", "web_url": _provider.url, "until": "9999-01-01T00:00:00.000000Z"}

    def act() -> None:
        _provider.codes[CODE] = {"name": "CI", "default_permissions": {"contents": "read"}}
        app_complete(actor=ADMIN, kept=kept, state="x", code=CODE)

    return act


@scenario("name_taken")
def make_a_pipeline_of_a_repository(_: World) -> Act:
    app_connection(_provider).save()
    return lambda: repository_pipeline_create(actor=OPERATOR, connection_id="github", repository="acme/shop")


@scenario(repeatable=False)
def give_credentials_for_fetching(world: World) -> Act:
    secret_create(actor=OPERATOR, name="DEPLOY", value="glpat-1234567890", scope=Scope())
    url = "https://git.example.com/acme/shop.git"
    pipeline_save(actor=ADMIN, name="shop", repository=url, default_ref="main", definition=None, fetch_secret="DEPLOY")
    created = job_create(actor=OPERATOR, pipeline="shop")
    _entry_claim(entry_of(created, attempt=1), agent=world.agent, slots=2)
    job = Worker(world.agent).start(str(created.job_id))
    channel = Channel(AttemptKey().public, frozenset())

    def act() -> None:
        assert start_fetch_access(agent=world.agent, job=job, attempt=1, channel=channel)

    return act


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
