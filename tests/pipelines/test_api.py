"""``/pipelines`` over HTTP: what people's programs may do to a pipeline, and what they are told."""

import threading
from typing import Any

import pytest

from apps.audit.selectors import audit_list
from apps.pipelines.selectors import pipeline_get
from apps.pipelines.services import pipeline_learn
from controlplane.lib import clock
from tests.accounts.test_lost_answers import first_answer_lost
from tests.clients import Client
from tests.conftest import person
from tests.metering import dynamodb_calls

REPOSITORY = "https://example.org/team/project.git"
YAML = "labels: [linux]\nsteps:\n  - run: make\n"


def save(client: Client, name: str = "web", **members: Any) -> Any:
    return client.put(f"/pipelines/{name}", json={"repository": REPOSITORY, "default_ref": "main", **members})


def acts() -> list[tuple[str, str, str]]:
    """Who did what to which pipeline today, oldest first."""
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return [
        (record.actor_name, record.action, record.target)
        for record in reversed(records)
        if record.action.startswith("pipeline.")
    ]


def test_a_pipeline_is_made_and_read(operator: Client) -> None:
    made = save(operator, definition=YAML)
    assert made.status_code == 201
    read = operator.get("/pipelines/web")
    assert read.status_code == 200
    assert read.json() == made.json()
    body = read.json()
    assert body.pop("created_at") == body.pop("updated_at")
    assert body == {
        "name": "web",
        "repository": REPOSITORY,
        "default_ref": "main",
        "definition": YAML,
        "labels": ["linux"],
        "revision": 1,
    }


def test_only_the_repository_must_be_given(operator: Client) -> None:
    made = operator.put("/pipelines/web", json={"repository": "/srv/git/web.git"})
    assert made.status_code == 201
    assert (made.json()["default_ref"], made.json()["definition"]) == ("main", None)


def test_saving_replaces_all_of_it(operator: Client) -> None:
    save(operator, definition=YAML, default_ref="release")
    changed = operator.put("/pipelines/web", json={"repository": "/srv/git/web.git"})
    assert changed.status_code == 200
    body = changed.json()
    assert (body["repository"], body["default_ref"], body["definition"]) == ("/srv/git/web.git", "main", None)
    assert body["revision"] == 2
    assert operator.get("/pipelines/web").json() == body


def test_saving_the_same_again_changes_nothing_and_is_not_recorded(operator: Client) -> None:
    first = save(operator, definition=YAML).json()
    again = save(operator, definition=YAML)
    assert (again.status_code, again.json()) == (200, first)
    assert len(acts()) == 1


def test_every_change_is_recorded_with_its_maker(operator: Client, admin: Client) -> None:
    save(operator)
    save(admin, default_ref="next")
    assert admin.delete("/pipelines/web").status_code == 204
    makers = [maker for maker, _, _ in acts()]
    assert [(action, target) for _, action, target in acts()] == [
        ("pipeline.saved", "pipeline:web"),
        ("pipeline.saved", "pipeline:web"),
        ("pipeline.deleted", "pipeline:web"),
    ]
    assert makers[0] != makers[1]
    assert makers[1] == makers[2]


def test_a_deleted_pipeline_is_gone(operator: Client) -> None:
    save(operator)
    deleted = operator.delete("/pipelines/web")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (operator.get("/pipelines/web"), operator.delete("/pipelines/web")):
        assert (answer.status_code, answer.json()["code"]) == (404, "pipeline_not_found")
    assert save(operator).status_code == 201


@pytest.mark.parametrize("name", ["nothing", "Upper", "a.b", "%00", "%FF", "x" * 3000, "é"])
def test_an_unknown_pipeline_is_not_found(operator: Client, name: str) -> None:
    answer = operator.get(f"/pipelines/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "pipeline_not_found")


@pytest.mark.parametrize("name", ["Upper", "-x", "a.b", "%00", "x" * 64])
def test_a_name_is_plain(operator: Client, name: str) -> None:
    for answer in (save(operator, name), operator.delete(f"/pipelines/{name}")):
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == ["name"]


@pytest.mark.parametrize(
    ("members", "field", "code"),
    [
        ({"repository": "ext::sh -c id"}, "repository", "invalid_repository"),
        ({"repository": "-oProxyCommand=id"}, "repository", "invalid_repository"),
        ({"repository": "https://me:secret@example.org/a"}, "repository", "invalid_repository"),
        ({"repository": " /srv/a"}, "repository", "invalid_repository"),
        ({"default_ref": "main; id"}, "default_ref", "invalid_ref"),
        ({"default_ref": "--upload-pack=id"}, "default_ref", "invalid_ref"),
        ({"default_ref": "main\n"}, "default_ref", "invalid_ref"),
        ({"default_ref": None}, "default_ref", "invalid_input"),
        ({"repository": ""}, "repository", "invalid_input"),
        ({"definition": 5}, "definition", "invalid_input"),
        ({"definition": True}, "definition", "invalid_input"),
        ({"repository": 5}, "repository", "invalid_input"),
        ({"default_ref": 1.5}, "default_ref", "invalid_input"),
        ({"definition": []}, "definition", "invalid_input"),
        ({"definition": ""}, "definition", "definition_invalid"),
    ],
)
def test_what_is_wrong_is_refused_and_named(operator: Client, members: dict[str, Any], field: str, code: str) -> None:
    answer = save(operator, **members)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert operator.get("/pipelines/web").status_code == 404


def test_all_faults_of_a_definition_are_told_with_their_lines(operator: Client) -> None:
    answer = save(operator, definition="retries: 99\nsteps:\n  - name: a\n    rum: make\n")
    assert (answer.status_code, answer.json()["code"]) == (400, "definition_invalid")
    assert [(error["field"], error["line"]) for error in answer.json()["errors"]] == [
        ("retries", 1),
        ("steps[0].run", 3),
        ("steps[0].rum", 4),
    ]


def test_who_may_only_look_changes_nothing(server: str, operator: Client) -> None:
    viewer = person(server, "viewer")
    save(operator)
    assert viewer.get("/pipelines/web").status_code == 200
    assert viewer.get("/pipelines").json()["total"] == 1
    assert save(viewer, default_ref="next").status_code == 403
    assert viewer.delete("/pipelines/web").status_code == 403
    assert operator.get("/pipelines/web").json()["revision"] == 1


def test_a_stranger_sees_nothing(outsider: Client) -> None:
    for answer in (
        outsider.get("/pipelines"),
        outsider.get("/pipelines/web"),
        save(outsider),
        outsider.delete("/pipelines/web"),
    ):
        assert answer.status_code == 401


def test_the_list_is_by_name_and_in_pages(operator: Client) -> None:
    names = [f"p{number}" for number in range(5)]
    for name in reversed(names):
        save(operator, name)
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = operator.get(f"/pipelines{query}").json()
        assert page["total"] == 5
        assert len(page["pipelines"]) <= 2
        seen += [pipeline["name"] for pipeline in page["pipelines"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert seen == names


def test_an_empty_list_is_a_list(operator: Client) -> None:
    assert operator.get("/pipelines").json() == {"pipelines": [], "total": 0, "next_cursor": None}


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
    # The others were told that too many save it.
    assert {answer.status_code for answer in answers} <= {200, 201, 409, 503}
    assert sum(answer.status_code == 201 for answer in saved) == 1
    assert sorted(answer.json()["revision"] for answer in saved) == list(range(1, len(saved) + 1))
    assert (
        pipeline_get("web").default_ref
        == max(saved, key=lambda answer: answer.json()["revision"]).json()["default_ref"]
    )
    assert len(acts()) == len(saved)


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
    assert (changed.json()["revision"], len(acts())) == (2, 2)


def test_a_deletion_whose_answer_is_lost_is_done_once(operator: Client) -> None:
    save(operator)
    with first_answer_lost() as sent:
        deleted = operator.delete("/pipelines/web")
    assert len(sent) == 2
    assert deleted.status_code == 204
    assert operator.get("/pipelines/web").status_code == 404
    assert [action for _, action, _ in acts()] == ["pipeline.saved", "pipeline.deleted"]


def test_saving_costs_one_read_and_one_transaction(operator: Client) -> None:
    save(operator)
    with dynamodb_calls() as counted:
        save(operator, default_ref="next")
    assert counted.operations[-2:] == ["GetItem", "TransactWriteItems"]
    # The pipeline and its audit record, each below 1 KB, twice in a transaction.
    assert counted.write_units <= 4


def test_labels_that_a_job_found_in_the_repository_are_learnt(operator: Client) -> None:
    save(operator, definition=None)
    pipeline_learn(name="web", git_ref="main", labels=["gpu"], retries=5, timeout=60)
    learnt = operator.get("/pipelines/web").json()
    assert (learnt["labels"], learnt["revision"]) == (["gpu"], 1)
    assert len(acts()) == 1
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
