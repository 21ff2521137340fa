"""``/pipelines`` over HTTP: what users' programs may do to a pipeline, and the answers that they get."""

from typing import Any

import pytest

from tests.clients import Client
from tests.conftest import person
from tests.pipelines.pipelines import REPOSITORY, YAML, recorded, save
from tests.sources.hooks import connected


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
        "badge": False,
        "fetch_secret": None,
        "source": None,
        "source_repository": None,
        "revision": 1,
        "paused_at": None,
        "paused_by": None,
    }


def test_only_the_repository_must_be_given(operator: Client) -> None:
    made = operator.put("/pipelines/web", json={"repository": "/srv/git/web.git"})
    assert made.status_code == 201
    assert (made.json()["default_ref"], made.json()["definition"]) == ("main", None)


def test_a_pipeline_is_bound_only_to_a_connection_that_exists(operator: Client, server: str) -> None:
    bound = {"repository": REPOSITORY, "source": "githb", "source_repository": "acme/shop"}
    refused = operator.put("/pipelines/web", json=bound)
    assert (refused.status_code, refused.json()["errors"]) == (
        400,
        [{"field": "source", "message": "must be the id of a connection, and there is none with the id githb"}],
    )
    assert (operator.get("/pipelines/web").status_code, recorded()) == (404, [])
    connected("githb")
    assert operator.put("/pipelines/web", json=bound).json()["source"] == "githb"


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
    assert len(recorded()) == 1


def test_every_change_is_recorded_with_its_maker(operator: Client, admin: Client) -> None:
    save(operator)
    save(admin, default_ref="next")
    assert admin.delete("/pipelines/web").status_code == 204
    makers = [maker for maker, _, _ in recorded()]
    assert [(action, target) for _, action, target in recorded()] == [
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


def test_all_mistakes_in_a_definition_are_reported_with_their_lines(operator: Client) -> None:
    answer = save(operator, definition="retries: 99\nsteps:\n  - name: a\n    rum: make\n")
    assert (answer.status_code, answer.json()["code"]) == (400, "definition_invalid")
    assert [(error["field"], error["line"]) for error in answer.json()["errors"]] == [
        ("retries", 1),
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
