"""The agent program has its own copy of the protocol. This compares it with the control plane's tables of fields."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from agent import container, protocol, refusals
from agent.addresses import Addresses
from agent.identity import Identity
from agent.job_secrets import SecretUse
from agent.log_times import LogTimes
from agent.pipeline import constants
from agent.protocol import Assignment, Command, ControlPlane
from agent.reports import ReportAnswer, ReportFile, Reports
from apps.agents.serializers.agents import CredentialsSerializer, EnrolmentSerializer
from apps.agents.serializers.configuration import AGENT_CONFIG
from apps.agents.serializers.heartbeats import HEARTBEAT, RUNNING
from apps.agents.serializers.steps import STEP_REPORT
from apps.agents.states import MAX_SLOTS, StepState
from apps.jobs.label_sets import HIGHEST_PRIORITY
from apps.jobs.models import LogChunk
from apps.jobs.serializers import agent_protocol as server
from controlplane.http.fields import Choice, Field, Flag, ListOf, MapOf, Number, Object, Text, WholeNumber
from controlplane.http.problems import CONTENT_TYPE
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.labels import CONTAINER_LABEL, LABEL, LABEL_FORM, MAX_LABELS, TARGET_PREFIX
from controlplane.lib.steps import MAX_STEP_NAME, MAX_STEPS
from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import FakeControlPlane

JOB = "01kahtnvg00000000000000000"
AGENT = "01kahtnvg00000000000000001"
ATTEMPT = Assignment(JOB, 1)
KEY = "a" * 43 + "="


class Recorder:
    """Takes the place of the agent's client: records what is sent, and answers with what the test gives."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.addresses = Addresses(["https://ci.example.org"])
        self.identity = Identity(url=self.addresses.used.url, agent_id=AGENT, key_id=f"{AGENT}.00000000", key=b"k" * 32)
        self.answer = answer
        self.sent: Any = None
        self.fresh: dict[str, str] = {}

    def send(
        self,
        _method: str,
        _path: str,
        *,
        understand: Callable[[Any], Any],
        body: bytes = b"null",
        fresh: Callable[[], dict[str, str]] = dict,
        **_: Any,
    ) -> Any:
        self.sent = body
        self.fresh = fresh()
        return understand(self.answer)

    insist = send


def ask(answer: dict[str, Any], request: Callable[[ControlPlane], Any]) -> tuple[Any, Any]:
    """What the agent makes of the answer to the request, and the body that it sent."""
    client = Recorder(answer)
    understood = request(ControlPlane(client))  # type: ignore[arg-type]
    return understood, client.sent


def example(field: Field) -> Any:
    """A value that the field takes, with all members and one entry in each list."""
    if isinstance(field, Object):
        return {name: example(member.field) for name, member in field.members.items()}
    if isinstance(field, ListOf):
        return [example(field.item)]
    if isinstance(field, MapOf):
        return {"NAME": example(field.value)}
    if isinstance(field, WholeNumber | Number):
        return max(field.least, 1)
    if isinstance(field, Choice):
        return field.values[0]
    if isinstance(field, Flag):
        return True
    assert isinstance(field, Text)
    return JOB if field.pattern else "text"


def without_nullable(table: Object) -> dict[str, Any]:
    """The example, with null for every member that may be null."""
    return {name: None if member.null else example(member.field) for name, member in table.members.items()}


STOP = threading.Event()


def test_the_states_of_a_step_are_the_same() -> None:
    states = {value for name, value in vars(protocol.StepState).items() if name.isupper()}
    assert states == {state.value for state in StepState}


def test_the_label_of_agents_that_can_run_containers_is_the_same() -> None:
    assert container.LABEL == CONTAINER_LABEL


def test_the_rules_of_pipeline_files_are_those_of_jobs_and_agents() -> None:
    assert constants.LABEL.pattern == LABEL.pattern
    assert (constants.LABEL_FORM, constants.MAX_LABELS) == (LABEL_FORM, MAX_LABELS)
    assert constants.CONTAINER_LABEL == CONTAINER_LABEL
    assert (constants.MAX_STEPS, constants.MAX_STEP_NAME) == (MAX_STEPS, MAX_STEP_NAME)
    assert constants.HIGHEST_PRIORITY == HIGHEST_PRIORITY
    # An environment is a deployment target, which is a label with its prefix.
    assert not constants.ENVIRONMENT.fullmatch("x" * 56)
    assert LABEL.fullmatch(f"{TARGET_PREFIX}{'x' * 55}")


def test_the_most_slots_of_an_agent_are_the_same() -> None:
    assert protocol.MAX_SLOTS == MAX_SLOTS


def test_the_codes_that_decide_what_a_refusal_means_are_the_control_planes() -> None:
    known = {code.value for code in ErrorCode} | {"identity_in_use", "log_chunk_conflict"}
    assert refusals.ABOUT_AGENT | refusals.ABOUT_REQUEST | {refusals.SIGNATURE_EXPIRED} <= known
    assert not refusals.ABOUT_AGENT & refusals.ABOUT_REQUEST
    assert refusals.ABOUT_DEFINITION <= refusals.ABOUT_REQUEST
    assert refusals.MEDIA_TYPE == CONTENT_TYPE


def test_the_agent_understands_the_answer_to_a_heartbeat() -> None:
    answer, _ = ask(example(server.HEARTBEAT_ANSWER), lambda plane: plane.heartbeat({}, created=lambda: 1))
    assert (answer.status, answer.next_check_interval, answer.config_version) == ("healthy", 1, 1)
    assert (answer.jobs, answer.commands) == ([ATTEMPT], [Command(ATTEMPT, "cancel")])


@pytest.mark.parametrize("make", [example, without_nullable])
def test_the_agent_understands_the_answer_to_a_start(make: Callable[[Object], dict[str, Any]]) -> None:
    given = make(server.START_ANSWER)
    answer, sent = ask(given, lambda plane: plane.start(ATTEMPT, secrets_key=KEY, stop=STOP))
    assert server.START.check(json.loads(sent)) == json.loads(sent) == {"attempt": 1, "secrets_key": KEY}
    for name in ("pipeline", "repository", "git_ref", "env", "timeout", "definition_path", "log_limit"):
        assert getattr(answer, name) == given[name], name
    assert answer.encrypted == given["sealed_secrets"]
    assert answer.encrypted_fetch == given.get("sealed_fetch")
    assert answer.deployment_targets == set(given["deployment_targets"])
    assert (answer.definition is None) == (given["definition"] is None)


def test_the_agent_understands_an_older_control_plane_that_names_no_limit_of_the_log() -> None:
    given = example(server.START_ANSWER)
    del given["log_limit"]
    assert ask(given, lambda plane: plane.start(ATTEMPT, secrets_key=KEY, stop=STOP))[0].log_limit is None


def test_the_agent_understands_what_is_in_a_report() -> None:
    report = ReportFile("junit", "a.xml", b"", "c" * 40)

    def found(make: Callable[[Object], dict[str, Any]]) -> ReportAnswer:
        return ask(make(server.REPORT_ANSWER), lambda plane: plane.report(ATTEMPT, 0, report, stop=STOP))[0]

    assert found(example) == ReportAnswer(total=1, failed=1, skipped=1, coverage=1.0)
    assert found(without_nullable) == ReportAnswer(total=0, failed=0, skipped=0, coverage=None)


def test_the_agent_reports_a_definition_and_understands_the_answer() -> None:
    answer, sent = ask(
        example(server.DEFINITION_ANSWER) | {"wants": None},
        lambda plane: plane.definition(ATTEMPT, commit="c" * 40, text="steps: []", secrets_key=KEY, stop=STOP),
    )
    assert server.DEFINITION_REPORT.check(json.loads(sent)).items() >= json.loads(sent).items()
    (step,) = answer.steps
    assert (step.name, step.run, step.env, step.timeout) == ("text", "text", {"NAME": "text"}, 1)
    assert (answer.env, answer.timeout, answer.container, answer.submodules) == ({"NAME": "text"}, 1, "text", True)
    assert answer.reports == Reports(("text",), "text")
    assert (answer.secrets, answer.encrypted) == ([SecretUse("text", file=True)], "text")
    given, exchange = example(server.DEFINITION_ANSWER), answer.exchange
    assert (exchange.take, exchange.outputs) == (given.get("take", []), given.get("outputs", []))
    assert [asdict(cache) for cache in exchange.caches] == given.get("caches", [])
    assert (asdict(exchange.artifacts) if exchange.artifacts else None) == given.get("artifacts")


@pytest.mark.parametrize("make", [example, without_nullable])
def test_the_agent_understands_the_answer_to_a_chunk_of_the_log(make: Callable[[Object], dict[str, Any]]) -> None:
    given = make(server.LOG_ANSWER)
    assert ask(given, lambda plane: plane.log(ATTEMPT, 0, b"x", times=lambda: "0", stop=STOP))[0] == given["wish"]


def test_the_control_plane_reads_when_the_bytes_of_a_chunk_were_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    times = LogTimes()
    for size, pause in ((40, 0.0), (60, 1.5), (10, 0.001), (5, 70.25)):
        now[0] += pause
        times.note(0, size)
    client = Recorder(example(server.LOG_ANSWER))
    plane = ControlPlane(client)  # type: ignore[arg-type]
    plane.log(ATTEMPT, 0, b"x" * 115, times=lambda: str(times.header(0)), stop=STOP)
    header = client.fresh["Log-Times"]
    assert re.fullmatch(server.LOG_TIMES, header)
    age, _, later = header.partition(" ")
    chunk = LogChunk(data=b"x" * 115, at=1000 - int(age) / 1000, times=later)
    assert chunk.moments == [(0, 928_249), (40, 929_749), (110, 1_000_000)]


def test_the_agent_understands_the_answer_to_a_finish() -> None:
    def finish(plane: ControlPlane) -> Any:
        return plane.finish(ATTEMPT, {}, wants_next=True, stop=STOP)

    assert ask(example(server.FINISH_ANSWER), finish)[0] == ATTEMPT
    assert ask(without_nullable(server.FINISH_ANSWER), finish)[0] is None


def test_the_agent_understands_its_configuration() -> None:
    given = example(AGENT_CONFIG) | {"workload_identity_secret": "a2V5"}
    configuration, _ = ask(given, lambda plane: plane.configuration())
    assert (configuration.version, configuration.slots) == (1, 1)
    assert (configuration.identity.key_id, configuration.identity.key) == ("text", b"key")


def test_the_agent_sends_what_the_control_plane_reads(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    steps = [{"name": "wait", "run": "sleep 2"}, {"name": "end", "run": "echo a=1 > $HYBRID_CI_OUTPUT; exit 7"}]
    job = plane.add_job(history.url, steps=steps, name="build", run_id="run1", group="deploy", outputs=["a"])
    agent.start()
    plane.wait_for(lambda: any(entry["steps"] for heartbeat in plane.heartbeats for entry in heartbeat["running"]))
    finish = plane.finished(job)

    _, enrolment = plane.enrol_requests[0]
    assert set(enrolment) == set(EnrolmentSerializer().fields)
    assert set(next(iter(plane.enrolments.values()))) == set(CredentialsSerializer().fields)

    named = (sent for sent in plane.heartbeats if any(entry["steps"] for entry in sent["running"]))
    heartbeat = next(named)
    (entry,) = heartbeat["running"]
    assert set(heartbeat) == set(HEARTBEAT.members) | {"boot_id", "hostname", "fault"}
    assert set(entry) == set(RUNNING.members)
    assert all(set(step) == set(STEP_REPORT.members) for step in entry["steps"])
    # The ids of the control plane that the tests have are others.
    assert HEARTBEAT.check({**heartbeat, "agent_id": AGENT, "running": [{**entry, "job_id": JOB}]})

    in_runs = {"run_id": "run1", "name": "build", "group": "deploy", "outputs": {"a": "1"}}
    assert set(finish) == set(server.FINISH.members) | {"agent_fault", *in_runs}
    assert {name: finish[name] for name in in_runs} == in_runs
    assert [step["state"] for step in server.FINISH.check(finish)["steps"]] == ["completed", "failed"]
