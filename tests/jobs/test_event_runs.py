"""Runs of events whose pipeline file is in the repository: what it asks for, and which older runs it cancels."""

from collections.abc import Mapping
from typing import Any

import pytest

from apps.jobs.models import RUN, Job, Run, RunHeads, heads_key
from apps.jobs.services import FileReport, attempt_define, attempt_expire, job_retry
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.queue import entry_of
from apps.pipelines.services import pipeline_save
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.runs import STEPS, Worker, status
from tests.jobs.test_event_starts import runs, worked
from tests.properties.consistency import Everything
from tests.signing import enrolled
from tests.sources.hooks import NONE, A, B, C, D, bound, connected, github_pull, github_push

_SELDOM = [pytest.param(order, marks=pytest.mark.nightly) for order in ((1, 2, 0), (0, 2, 1), (1, 0, 2))]
GRAPH = "jobs: {test: {steps: [{run: make}]}}"
CANCELS = "on: {push: {cancel_superseded: true}, pull_request: {cancel_superseded: true}}"


@pytest.fixture
def reader(worker: Worker) -> Worker:
    """An agent, and the pipeline `web`, whose file is in the repository of a connection."""
    connected()
    bound(definition=None)
    return worker


def begun(worker: Worker, payload: Mapping[str, Any], kind: str = "push") -> Job:
    """The first job of the event's run, which the agent has started."""
    delivery = worked(payload, kind)
    return taken(worker, Job.get(Run.get(delivery.results[0]["run_id"], RUN).job_id))


def taken(worker: Worker, job: Job) -> Job:
    _entry_claim(entry_of(job, attempt=int(job.attempt) + 1), agent=worker.agent, slots=9)
    return worker.start(str(job.job_id))


def read(worker: Worker, job: Job, text: str, **found: Any) -> Mapping[str, Any]:
    """What the agent is answered after it has read the file."""
    report = FileReport(commit=str(job.commit), text=text, **found)
    return attempt_define(
        agent=worker.agent, agent_labels=[], job_id=str(job.job_id), attempt=int(job.attempt), report=report
    )


def run_of(job: Job) -> Run:
    return Run.get(job.run_id, RUN)


def test_the_first_job_reads_the_file_and_a_run_that_it_does_not_ask_for_ends(reader: Worker) -> None:
    job = begun(reader, github_push("refs/heads/feature"))
    answer = read(reader, job, f"{STEPS}\non: {{push: {{branches: [main]}}}}")
    reason = "feature matches no pattern of `on.push.branches`."
    assert [step["run"] for step in answer["steps"]] == [f"echo '{reason}'"]
    reader.finish(job)
    assert (run_of(job).nothing_to_do, status(str(job.run_id))) == (reason, "completed")
    assert Everything.read().inconsistencies() == []


def test_a_run_that_the_file_asks_for_goes_on(reader: Worker) -> None:
    job = begun(reader, github_push("refs/heads/feature"))
    assert read(reader, job, f"{STEPS}\non: {{push: {{branches: ['f*']}}}}")["steps"][0]["run"] == "make"
    graph = begun(reader, github_pull(), "pull_request")
    read(reader, graph, f"{GRAPH}\non: {{pull_request: {{}}}}")
    reader.finish(graph)
    (test,) = reader.take_all()
    assert (test.commit, run_of(graph).nothing_to_do) == (B, None)


def test_what_was_let_go_stays_so_for_the_next_attempt_and_builds_when_a_user_runs_it_again(reader: Worker) -> None:
    text = f"{STEPS}\non: {{tag: {{}}}}"
    job = begun(reader, github_push())
    read(reader, job, text)
    expired: dict[str, Any] = {"agent_id": reader.agent.id, "heartbeat_at": None, "reason": "silence"}
    assert attempt_expire(job_id=str(job.job_id), attempt=1, **expired)
    again = taken(reader, Job.get(job.job_id))
    assert read(reader, again, STEPS)["steps"][0]["name"] == "nothing to do"
    reader.finish(again)
    retried = taken(reader, job_retry(actor=OPERATOR, job_id=str(job.job_id)))
    assert (read(reader, retried, text)["steps"][0]["run"], retried.commit) == ("make", B)


@pytest.mark.parametrize(
    ("payload", "kind", "asked"),
    [
        (github_push(forced=True), "push", {"branch": "main"}),
        (github_push(before=NONE), "push", {"branch": "main"}),
        (github_push(paths=tuple(f"{number}.md" for number in range(1001))), "push", {"since": A}),
        (github_pull(base="next"), "pull_request", {"branch": "next"}),
    ],
)
def test_git_says_which_paths_have_changed_where_the_provider_does_not(
    reader: Worker, payload: Mapping[str, Any], kind: str, asked: Mapping[str, str]
) -> None:
    job = begun(reader, payload, kind)
    text = f"{GRAPH}\non: {{push: {{paths: ['src/**']}}, pull_request: {{paths: ['src/**']}}}}"
    assert read(reader, job, text) == {"wants": {"changes": True, **asked}}
    answer = read(reader, job, text, answers_wants=True, changed_paths=["docs/a.md"])
    assert answer["steps"][0]["name"] == "nothing to do"
    other = begun(reader, {**payload, "sender": {"login": "other"}}, kind)
    read(reader, other, text, answers_wants=True, changed_paths=None)
    assert run_of(other).jobs == 2


def test_steps_on_the_server_wait_for_the_changed_paths_too(worker: Worker) -> None:
    connected()
    bound(definition=f"{STEPS}\non: {{push: {{paths: ['src/**']}}}}")
    job = begun(worker, github_push(forced=True))
    assert job.definition is None
    assert "wants" in read(worker, job, "")
    assert read(worker, job, "", answers_wants=True, changed_paths=["src/a"])["steps"][0]["run"] == "make"


@pytest.mark.parametrize("on_server", [True, False])
def test_newer_commits_cancel_the_runs_of_older_ones_also_after_a_forced_push(worker: Worker, on_server: bool) -> None:
    connected()
    text = f"{GRAPH}\n{CANCELS}"
    bound(definition=text if on_server else None)
    first = begun(worker, github_push(after=B))
    read(worker, first, text)
    worker.finish(first)
    other = begun(worker, github_push("refs/heads/other", after=B))
    newer = begun(worker, github_push(before=B, after=C, forced=True))
    read(worker, newer, text)
    assert run_of(first).cancel_requested or status(str(first.run_id)) == "cancelled"
    assert [Job.get(run.job_id).cancel_requested for run in (run_of(other), run_of(newer))] == [None, None]


def test_an_older_run_that_is_still_queued_is_cancelled_at_once(reader: Worker) -> None:
    worked(github_push(after=B))
    job = begun(reader, github_push(before=B, after=C))
    read(reader, job, f"{STEPS}\n{CANCELS}")
    newest, oldest = runs()
    assert [Job.get(run.job_id).status for run in (newest, oldest)] == ["running", "cancelled"]


def test_a_newer_run_that_has_nothing_to_do_cancels_no_other(reader: Worker) -> None:
    text = f"{STEPS}\non: {{push: {{paths: ['src/**'], cancel_superseded: true}}}}"
    older = begun(reader, github_push(after=B))
    newer = begun(reader, github_push(before=B, after=C, paths=("docs/a.md",)))
    assert read(reader, newer, text)["steps"][0]["name"] == "nothing to do"
    assert read(reader, older, text)["steps"][0]["run"] == "make"
    assert [Job.get(one.job_id).cancel_requested for one in (older, newer)] == [None, None]


def test_an_older_run_ends_when_it_reads_its_file_after_a_newer_one(reader: Worker) -> None:
    older = begun(reader, github_push(after=B))
    newer = begun(reader, github_push(before=B, after=C))
    text = f"{STEPS}\n{CANCELS}"
    read(reader, older, text)
    assert Job.get(newer.job_id).cancel_requested is None
    read(reader, newer, text)
    read(reader, older, text)
    assert [Job.get(one.job_id).cancel_requested for one in (older, newer)] == [True, None]


def test_without_the_key_older_runs_go_on(reader: Worker) -> None:
    worked(github_push(after=B))
    read(reader, begun(reader, github_push(before=B, after=C)), f"{STEPS}\non: {{push: {{}}}}")
    assert [Job.get(run.job_id).status for run in runs()] == ["running", "queued"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (2, 0, 1), *_SELDOM])
def test_the_newest_commit_stays_in_whatever_order_the_deliveries_come(tables: None, order: tuple[int, ...]) -> None:
    connected()
    bound(definition=f"{STEPS}\n{CANCELS}")
    commits = [A, B, C, D]
    pushes = [github_push(before=commits[at], after=commits[at + 1], at=1795761000 + at) for at in range(3)]
    for number in order:
        worked(pushes[number])
    alive = {run.commit: Job.get(run.job_id).status for run in runs()}
    assert alive == {B: "cancelled", C: "cancelled", D: "queued"}


def test_a_pull_request_is_cancelled_by_its_own_newer_commits_alone(tables: None) -> None:
    connected()
    bound(definition=f"{STEPS}\n{CANCELS}")
    worked(github_pull(head=B), "pull_request")
    worked(github_pull(number=8, head=B), "pull_request")
    worked(github_pull("synchronize", before=B, head=C), "pull_request")
    alive = {(run.pull_request, run.commit): Job.get(run.job_id).status for run in runs()}
    assert alive == {(7, B): "cancelled", (8, B): "queued", (7, C): "queued"}


def test_what_is_known_of_a_branch_does_not_grow(tables: None) -> None:
    connected()
    bound()
    heads = RunHeads(heads_key("web", "main"), entries=[f"gone {A} {B} -"] * 40)
    heads.save()
    worked(github_push())
    (run,) = runs()
    entries = RunHeads.get(heads.run_id, heads.part).entries
    assert (len(entries), entries[-1].split(" ")[0]) == (20, run.run_id)


def test_a_file_that_a_pipeline_gets_later_counts_for_its_own_runs_alone(reader: Worker) -> None:
    """What a run's file says is that of its own commit: an older run is not asked what a newer file says."""
    job = begun(reader, github_push())
    pipeline_save(
        actor=ADMIN,
        name="web",
        repository="https://github.com/acme/shop.git",
        default_ref="main",
        definition=f"{STEPS}\non: {{tag: {{}}}}",
    )
    assert read(reader, job, STEPS)["steps"][0]["run"] == "make"


@pytest.mark.parametrize(("payload", "kind"), [(github_push(), "push"), (github_pull(fork=True), "pull_request")])
def test_the_agent_fetches_the_commit_of_the_event_although_the_ref_may_have_moved(
    server: str, payload: Mapping[str, Any], kind: str
) -> None:
    connected()
    bound(definition=None)
    agent = enrolled(server)
    worked(payload, kind)
    (assignment,) = agent.heartbeat(free_slots=1)["jobs"]
    started = agent.start(assignment).json()
    assert (started["git_ref"], started["ref"]) == (B, runs()[0].git_ref)
