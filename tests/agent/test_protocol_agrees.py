"""The agent program has its own copy of the protocol. This compares it with the control plane's tables of fields."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent import container, protocol, refusals
from agent.identity import Identity
from agent.protocol import Assignment, Command, ControlPlane
from apps.agents.serializers.agents import CredentialsSerializer, EnrolmentSerializer
from apps.agents.serializers.configuration import AGENT_CONFIG
from apps.agents.serializers.heartbeats import HEARTBEAT, RUNNING
from apps.agents.serializers.steps import STEP_REPORT
from apps.agents.states import MAX_SLOTS, StepState
from apps.jobs.serializers import agent_protocol as server
from apps.pipelines import definitions
from controlplane.http.fields import Choice, Field, Flag, ListOf, MapOf, Number, Object, Text, WholeNumber
from controlplane.http.problems import CONTENT_TYPE
from controlplane.lib.error_codes import ErrorCode
from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import FakeControlPlane

JOB = "01kahtnvg00000000000000000"
AGENT = "01kahtnvg00000000000000001"
ATTEMPT = Assignment(JOB, 1)


class Recorder:
    """Takes the place of the agent's client: records what is sent, and answers with what the test gives."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.url = "https://ci.example.org"
        self.identity = Identity(url=self.url, agent_id=AGENT, key_id=f"{AGENT}.00000000", key=b"k" * 32)
        self.answer = answer
        self.sent: Any = None

    def send(
        self, _method: str, _path: str, *, understand: Callable[[Any], Any], body: bytes = b"null", **_: Any
    ) -> Any:
        self.sent = body
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
    assert container.LABEL == definitions.CONTAINER_LABEL


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
    answer, sent = ask(given, lambda plane: plane.start(ATTEMPT, stop=STOP))
    assert server.START.check(json.loads(sent)) == json.loads(sent) == {"attempt": 1}
    for name in ("pipeline", "repository", "git_ref", "env", "timeout", "definition_path", "log_limit"):
        assert getattr(answer, name) == given[name], name
    assert (answer.definition is None) == (given["definition"] is None)


def test_the_agent_understands_an_older_control_plane_that_names_no_limit_of_the_log() -> None:
    given = example(server.START_ANSWER)
    del given["log_limit"]
    assert ask(given, lambda plane: plane.start(ATTEMPT, stop=STOP))[0].log_limit is None


def test_the_agent_reports_a_definition_and_understands_the_answer() -> None:
    answer, sent = ask(
        example(server.WORK), lambda plane: plane.definition(ATTEMPT, commit="c" * 40, text="steps: []", stop=STOP)
    )
    assert server.DEFINITION_REPORT.check(json.loads(sent)) == json.loads(sent)
    (step,) = answer.steps
    assert (step.name, step.run, step.env, step.timeout) == ("text", "text", {"NAME": "text"}, 1)
    assert (answer.env, answer.timeout, answer.container, answer.submodules) == ({"NAME": "text"}, 1, "text", True)


@pytest.mark.parametrize("make", [example, without_nullable])
def test_the_agent_understands_the_answer_to_a_chunk_of_the_log(make: Callable[[Object], dict[str, Any]]) -> None:
    given = make(server.LOG_ANSWER)
    assert ask(given, lambda plane: plane.log(ATTEMPT, 0, b"x", stop=STOP))[0] == given["wish"]


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
    job = plane.add_job(history.url, steps=[{"name": "wait", "run": "sleep 2"}, {"name": "end", "run": "exit 7"}])
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

    assert set(finish) == set(server.FINISH.members) | {"agent_fault"}
    assert [step["state"] for step in server.FINISH.check(finish)["steps"]] == ["completed", "failed"]
