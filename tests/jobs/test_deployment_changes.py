"""The commits of a deployment since the one before: from the provider where there is one, else the two commits."""

from typing import Any

import pytest

from apps.jobs.models import RUN, Deployment, Run
from apps.jobs.selectors.deployments import deployment_get
from apps.jobs.services import deployment_changes as module
from apps.jobs.services.deployment_changes import deployment_changes
from apps.jobs.services.environments import environment_change
from apps.sources.providers.interface import Comparison
from controlplane.lib.errors import Unavailable
from tests.conftest import ADMIN
from tests.jobs.deployments import DEPLOYS, deployer, deployment_of
from tests.jobs.runs import COMMIT, Worker

OLD = "a" * 40


@pytest.fixture
def worker(tables: None) -> Worker:
    return deployer()


@pytest.fixture
def waiting(worker: Worker) -> Deployment:
    """A deployment that waits while another commit is live."""
    run = worker.run(DEPLOYS)
    Run(run, RUN).update(actions=[Run.commit.set(OLD)])
    Deployment(deployment_of(run).deployment_id).update(actions=[Deployment.commit.set(OLD)])
    worker.finish(worker.take())
    environment_change(actor=ADMIN, name="production", wait_seconds=60)
    return deployment_of(worker.run(DEPLOYS))


def test_without_a_provider_the_two_commits_are_known_also_while_it_waits(waiting: Deployment) -> None:
    changes = deployment_changes(waiting)
    assert (changes.before, changes.after, changes.commits) == (OLD, COMMIT, None)


def test_the_provider_says_the_commits_once(waiting: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def compared(*arguments: str) -> Comparison:
        asked.append(arguments)
        commits = [{"commit": str(number) * 40, "author": "ada", "message": "m", "url": ""} for number in range(3)]
        return Comparison(ahead_by=3, behind_by=0, commits=commits, paths=None, url="https://git.example.com/x")

    monkeypatch.setattr(module, "_compared", compared)
    for _ in range(2):
        changes = deployment_changes(deployment_get(str(waiting.deployment_id)))
    assert asked == [("graph", OLD, COMMIT)]
    assert (changes.count, changes.is_back) == (3, False)
    assert [one["commit"][0] for one in changes.commits or ()] == ["2", "1", "0"]


def test_a_provider_that_does_not_answer_hides_nothing(waiting: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: str) -> Comparison:
        raise Unavailable

    monkeypatch.setattr(module, "_compared", away)
    assert (deployment_changes(waiting).before, deployment_changes(waiting).commits) == (OLD, None)
