"""Writing pipelines: several savers, lost responses, and what a job reports about the repository's own file."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.selectors import pipeline_get
from apps.pipelines.services import pipeline_learn, pipeline_save
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict
from tests.accounts.test_lost_answers import first_answer_lost
from tests.clients import Client, problem
from tests.metering import dynamodb_calls
from tests.pipelines.pipelines import REPOSITORY, YAML, recorded, save

ADA = Actor("user", "ada", "Ada", permissions=frozenset({"pipelines.save"}))


def test_savers_at_the_same_time_leave_one_of_their_versions_and_a_record_each(operator: Client) -> None:
    answers: list[Any] = []
    refs = [f"branch-{number}" for number in range(8)]
    threads = [
        threading.Thread(
            target=lambda ref=ref: answers.append(save(Client(operator.server, operator.token), default_ref=ref))
        )
        for ref in refs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    saved = [answer for answer in answers if answer.status_code in (200, 201)]
    # The others got the answer that too many save it.
    assert {answer.status_code for answer in answers} <= {200, 201, 409, 503}
    assert sum(answer.status_code == 201 for answer in saved) == 1
    assert sorted(answer.json()["revision"] for answer in saved) == list(range(1, len(saved) + 1))
    assert (
        pipeline_get("web").default_ref
        == max(saved, key=lambda answer: answer.json()["revision"]).json()["default_ref"]
    )
    assert len(recorded()) == len(saved)


def test_a_save_whose_answer_is_lost_is_done_once(operator: Client) -> None:
    operator.get("/pipelines")
    with first_answer_lost() as sent:
        made = save(operator)
    assert len(sent) == 2
    with first_answer_lost() as sent:
        changed = save(operator, default_ref="next")
    assert len(sent) == 2
    assert (made.status_code, changed.status_code) == (201, 200)
    assert operator.get("/pipelines/web").json() == changed.json()
    assert (changed.json()["revision"], len(recorded())) == (2, 2)


def test_a_deletion_whose_answer_is_lost_is_done_once(operator: Client) -> None:
    save(operator)
    with first_answer_lost() as sent:
        deleted = operator.delete("/pipelines/web")
    assert len(sent) == 2
    assert deleted.status_code == 204
    assert operator.get("/pipelines/web").status_code == 404
    assert [action for _, action, _ in recorded()] == ["pipeline.saved", "pipeline.deleted"]


def test_saving_costs_one_read_and_one_transaction(operator: Client) -> None:
    save(operator)
    with dynamodb_calls() as counted:
        save(operator, default_ref="next")
    assert counted.operations[-2:] == ["GetItem", "TransactWriteItems"]
    # The pipeline and its audit record, each below 1 KB, twice in a transaction.
    assert counted.write_units <= 4


def test_a_pipeline_of_another_repository_is_refused_and_says_which_are_allowed(
    operator: Client, settings: Any
) -> None:
    settings.ALLOWED_REPOSITORIES = ["github.com/acme/*"]
    refused = problem(save(operator), 400, "repository_not_allowed")
    assert refused["errors"][0]["field"] == "repository"
    assert "github.com/acme/*" in refused["errors"][0]["message"]
    assert operator.get("/pipelines/web").status_code == 404
    assert save(operator, repository="git@github.com:acme/web.git").status_code == 201


def test_labels_that_a_job_found_in_the_repository_are_learnt(operator: Client) -> None:
    save(operator, definition=None)
    pipeline_learn(name="web", git_ref="main", labels=["gpu"], retries=5, timeout=60)
    learnt = operator.get("/pipelines/web").json()
    assert (learnt["labels"], learnt["revision"]) == (["gpu"], 1)
    assert len(recorded()) == 1
    with dynamodb_calls() as counted:
        pipeline_learn(name="web", git_ref="main", labels=["gpu"], retries=5, timeout=60)
    assert counted.operations == ["GetItem"]


def test_another_branch_teaches_nothing(operator: Client) -> None:
    save(operator, definition=None)
    pipeline_learn(name="web", git_ref="experiment", labels=["gpu"], retries=5, timeout=60)
    assert operator.get("/pipelines/web").json()["labels"] == []


def test_a_definition_on_the_server_is_not_overruled(operator: Client) -> None:
    save(operator, definition=YAML)
    pipeline_learn(name="web", git_ref="main", labels=["gpu"], retries=5, timeout=60)
    assert operator.get("/pipelines/web").json()["labels"] == ["linux"]


def test_a_pipeline_that_is_gone_learns_nothing(tables: None) -> None:
    pipeline_learn(name="web", git_ref="main", labels=["gpu"], retries=5, timeout=60)


@pytest.fixture
def before_each_write(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Any]], None]:
    """Have something else happen each time a service has read a pipeline; it gets the number of the reading."""

    def install(act: Callable[[int], Any]) -> None:
        find, readings = Pipeline.find, iter(range(100))

        def find_and_act(*key: Any) -> Pipeline | None:
            found = find(*key)
            act(next(readings))
            return found

        monkeypatch.setattr(Pipeline, "find", find_and_act)

    return install


def changed_elsewhere(number: int) -> None:
    """Another process saves the pipeline."""
    other = Pipeline.get(SCOPE, "web", consistent_read=True)
    other.update(actions=[Pipeline.revision.set(other.revision + 1), Pipeline.default_ref.set(f"branch-{number}")])


def test_a_save_gives_up_when_others_save_the_pipeline_again_and_again(
    operator: Client, before_each_write: Callable[[Callable[[int], Any]], None]
) -> None:
    save(operator)
    before_each_write(changed_elsewhere)
    with pytest.raises(Conflict) as caught:
        pipeline_save(actor=ADA, name="web", repository=REPOSITORY, default_ref="mine", definition=None)
    assert caught.value.code == "pipeline_busy"
    assert pipeline_get("web").default_ref == "branch-4"
    assert len(recorded()) == 1


def test_a_job_reports_nothing_over_a_save_that_came_between(
    operator: Client, before_each_write: Callable[[Callable[[int], Any]], None]
) -> None:
    save(operator)
    before_each_write(changed_elsewhere)
    pipeline_learn(name="web", git_ref="main", labels=["gpu"], retries=5, timeout=60)
    assert operator.get("/pipelines/web").json()["labels"] == []
