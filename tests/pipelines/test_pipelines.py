"""Writing pipelines: permissions, several savers, and lost responses."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from apps.accounts.policies import role_permissions
from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.selectors import pipeline_get
from apps.pipelines.services import pipeline_delete, pipeline_save
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden
from controlplane.nosql.transaction import Transaction
from tests.accounts.test_lost_answers import first_answer_lost
from tests.agents.interleaving import before_first
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


def test_a_pipeline_with_a_container_asks_for_agents_that_can_run_containers(operator: Client) -> None:
    assert save(operator, definition=f"{YAML}container: python:3.12-slim\n").status_code == 201
    assert operator.get("/pipelines/web").json()["labels"] == ["linux", "container"]


GRAPH = "jobs:\n  a: {labels: [gpu], steps: [{run: make}]}\n  b: {needs: a, steps: [{run: make}]}\n"


def test_a_definition_with_jobs_is_saved_and_asks_for_no_labels_since_each_job_has_its_own(operator: Client) -> None:
    saved = save(operator, definition=GRAPH)
    assert (saved.status_code, saved.json()["definition"], saved.json()["labels"]) == (201, GRAPH, [])
    assert save(operator, definition=GRAPH, labels=["linux"]).json()["code"] == "invalid_input"
    (error,) = save(operator, definition=GRAPH.replace("needs: a", "needs: b")).json()["errors"]
    assert (error["field"], error["line"], error["column"]) == ("jobs.b.needs", 3, 7)


def test_a_definition_on_the_server_has_at_most_64_kilobytes(operator: Client) -> None:
    assert save(operator, definition=GRAPH + "#" * (64 * 1024 - len(GRAPH))).status_code == 201
    answer = save(operator, definition=GRAPH + "#" * (64 * 1024 - len(GRAPH) + 1))
    assert (answer.status_code, answer.json()["code"]) == (400, "definition_invalid")
    assert "keep a longer one in the repository" in answer.json()["errors"][0]["message"]


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


# --- revisions ------------------------------------------------------------------------------------------------------


def save_at(revision: int, default_ref: str = "mine") -> int:
    """Save the pipeline as a user does who has seen it at this revision; returns its revision now."""
    saved = pipeline_save(
        actor=ADA, name="web", repository=REPOSITORY, default_ref=default_ref, definition=None, revision=revision
    )
    return int(saved.pipeline.revision)


def test_a_save_requires_the_revision_that_the_user_has_seen(operator: Client) -> None:
    with pytest.raises(Conflict) as caught:
        save_at(1)
    assert caught.value.code == "changed_meanwhile"
    assert save_at(0) == 1
    assert save_at(1, "other") == 2
    for revision, code in ((0, "name_taken"), (1, "changed_meanwhile"), (3, "changed_meanwhile")):
        with pytest.raises(Conflict) as caught:
            save_at(revision)
        assert caught.value.code == code
    assert (pipeline_get("web").default_ref, len(recorded())) == ("other", 2)


def test_a_save_that_comes_between_read_and_write_is_not_overwritten(operator: Client) -> None:
    save_at(0, "first")
    with before_first(Transaction, "commit", lambda: save_at(1, "theirs")), pytest.raises(Conflict) as caught:
        save_at(1, "mine")
    assert caught.value.code == "changed_meanwhile"
    assert pipeline_get("web").default_ref == "theirs"


def test_a_deletion_that_comes_between_read_and_write_is_not_undone(operator: Client) -> None:
    save_at(0, "first")
    deleter = Actor("user", "eve", "Eve", permissions=frozenset({"pipelines.delete"}))

    def delete() -> None:
        pipeline_delete(actor=deleter, name="web")

    with before_first(Transaction, "commit", delete), pytest.raises(Conflict) as caught:
        save_at(1)
    assert caught.value.code == "changed_meanwhile"
    assert Pipeline.find(SCOPE, "web") is None


# --- permissions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["viewer", "auditor", None])
def test_the_services_themselves_refuse_users_without_the_permission(operator: Client, role: str | None) -> None:
    save(operator)
    actor = Actor("user", "eve", "Eve", permissions=role_permissions(role) if role else frozenset())
    with pytest.raises(Forbidden):
        pipeline_save(actor=actor, name="web", repository=REPOSITORY, default_ref="mine", definition=None)
    with pytest.raises(Forbidden):
        pipeline_save(actor=actor, name="new", repository=REPOSITORY, default_ref="mine", definition=None)
    with pytest.raises(Forbidden):
        pipeline_delete(actor=actor, name="web")
    assert pipeline_get("web").default_ref == "main"
    assert len(recorded()) == 1


def test_saving_and_deleting_are_two_permissions(operator: Client) -> None:
    save(operator)
    with pytest.raises(Forbidden):
        pipeline_delete(actor=ADA, name="web")
    deleter = Actor("user", "eve", "Eve", permissions=frozenset({"pipelines.delete"}))
    with pytest.raises(Forbidden):
        pipeline_save(actor=deleter, name="web", repository=REPOSITORY, default_ref="mine", definition=None)
    pipeline_delete(actor=deleter, name="web")
