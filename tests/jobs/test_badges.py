"""The badges of pipelines: what they show, and to whom."""

from typing import Any
from xml.etree import ElementTree

import pytest
from django.core.cache import cache

from apps.jobs.models import RUN, Run
from apps.jobs.selectors.badges import branch_result, branch_runs
from apps.jobs.services import job_create
from apps.jobs.states import RunStatus
from apps.pipelines.services import pipeline_save
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR
from tests.metering import dynamodb_calls

SVG = "{http://www.w3.org/2000/svg}"


def pipeline(*, badge: bool | None = True, name: str = "web") -> None:
    repository = "https://example.org/web.git"
    pipeline_save(actor=ADMIN, name=name, repository=repository, default_ref="main", definition=None, badge=badge)


def run(status: RunStatus, *, git_ref: str = "main", event: str | None = None) -> str:
    """A run of the pipeline web that has this status."""
    run_id = str(job_create(actor=OPERATOR, pipeline="web", git_ref=git_ref).run_id)
    Run(run_id, RUN).update(actions=[Run.status.set(status)])
    if event:
        Run(run_id, RUN).update(actions=[Run.event.set(event)])
    return run_id


def result(branch: str) -> RunStatus | None:
    return branch_result(branch_runs("web"), branch)


def title(answer: Any) -> str:
    """What a screen reader says of the badge."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8"), answer.text
    picture = ElementTree.fromstring(answer.content)
    text = picture.findtext(f"{SVG}title")
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == text
    assert " ".join(filter(None, (part.text for part in picture.iter(f"{SVG}text")))) == text.replace(":", "")
    return str(text)


def headers(answer: Any) -> dict[str, str]:
    """The headers of an answer that do not differ with each request."""
    return {name: value for name, value in answer.headers.items() if name not in ("Date", "X-Request-Id")}


def test_a_badge_shows_how_the_newest_ended_run_of_a_branch_ended(tables: None) -> None:
    pipeline()
    assert result("main") is None
    run(RunStatus.COMPLETED)
    run(RunStatus.FAILED, git_ref="refs/heads/next")
    assert result("main") == RunStatus.COMPLETED
    assert result("next") == result("refs/heads/next") == RunStatus.FAILED
    # Neither one that goes on, nor one that was cancelled, nor what somebody proposes.
    run(RunStatus.RUNNING)
    run(RunStatus.CANCELLED)
    run(RunStatus.FAILED, event="pull_request")
    assert result("main") == RunStatus.COMPLETED
    run(RunStatus.FAILED)
    assert result("main") == RunStatus.FAILED


def test_a_public_badge_is_seen_without_signing_in(outsider: Client) -> None:
    pipeline()
    run(RunStatus.COMPLETED)
    run(RunStatus.FAILED, git_ref="next")
    answer = outsider.get("/badges/web.svg")
    assert title(answer) == "web: passing"
    assert title(outsider.get("/badges/web.svg?branch=next")) == "web: failing"
    assert title(outsider.get("/badges/web.svg?branch=other")) == "web: no runs yet"
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert "Cookie" not in answer.headers.get("Vary", "")
    assert "Set-Cookie" not in answer.headers
    assert "script" not in answer.text
    assert "style" not in answer.text


def test_any_number_of_branches_that_do_not_exist_costs_no_more_than_one_that_does(outsider: Client) -> None:
    pipeline()
    run(RunStatus.COMPLETED)
    title(outsider.get("/badges/web.svg"))
    with dynamodb_calls() as spent:
        for number in range(10):
            assert title(outsider.get(f"/badges/web.svg?branch=none-{number}")) == "web: no runs yet"
        assert title(outsider.get("/badges/web.svg")) == "web: passing"
    # The pipeline is read each time: its badge may not be public any more.
    assert set(spent.operations) == {"GetItem"}
    assert len(spent.operations) == 11


def test_a_client_that_has_the_badge_is_answered_304(outsider: Client) -> None:
    pipeline()
    answer = outsider.get("/badges/web.svg")
    again = outsider.get("/badges/web.svg", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert again.headers["Cache-Control"] == "public, max-age=60"
    run(RunStatus.FAILED)
    cache.clear()
    changed = outsider.get("/badges/web.svg?branch=main", headers={"If-None-Match": answer.headers["ETag"]})
    assert changed.headers["ETag"] != answer.headers["ETag"]


def test_a_badge_that_is_not_public_is_not_found_without_sign_in(
    operator: Client, outsider: Client, server: str
) -> None:
    pipeline(badge=None)
    problem(outsider.get("/badges/nothing.svg"), 404, "pipeline_not_found")
    for client in (outsider, Client(server, "not-a-token")):
        unknown = client.get("/badges/nothing.svg")
        for path in ("web.svg", "web.svg?branch=%20", "web.svg?nothing=1", "WEB.svg"):
            answer = client.get(f"/badges/{path}")
            assert (answer.status_code, answer.content) == (404, unknown.content)
            assert headers(answer) == headers(unknown)
    seen = operator.get("/badges/web.svg")
    assert title(seen) == "web: no runs yet"
    assert seen.headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in seen.headers["Vary"]


def test_a_branch_that_no_ref_can_be_is_named_as_invalid(outsider: Client) -> None:
    pipeline()
    answer = outsider.get("/badges/web.svg", params={"branch": "-x"})
    assert problem(answer, 400, "invalid_ref")["errors"][0]["field"] == "branch"


def test_who_may_change_the_pipeline_makes_its_badge_public(operator: Client, outsider: Client) -> None:
    body = {"repository": "https://example.org/web.git"}
    assert operator.put("/pipelines/web", json=body).json()["badge"] is False
    assert operator.put("/pipelines/web", json={**body, "badge": True}).json()["badge"] is True
    # Left out, it stays as it is.
    assert operator.put("/pipelines/web", json=body).json()["badge"] is True
    assert outsider.get("/badges/web.svg").status_code == 200
    assert operator.put("/pipelines/web", json={**body, "badge": False}).json()["badge"] is False
    assert outsider.get("/badges/web.svg").status_code == 404


@pytest.mark.parametrize("name", ["a-very-long-name-of-a-pipeline-that-has-all-sixty-three-signs-x", "illi", "m_w"])
def test_the_words_of_a_badge_fit_into_it(outsider: Client, name: str) -> None:
    pipeline(name=name)
    picture = ElementTree.fromstring(outsider.get(f"/badges/{name}.svg").content)
    fitted = [int(part.get("textLength", "0")) for part in picture.iter(f"{SVG}text")]
    assert int(picture.get("width", "0")) == sum(fitted) + 24
    assert all(3 <= width / len(text) <= 12 for width, text in zip(fitted, (name, "no runs yet"), strict=True))
