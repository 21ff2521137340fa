"""A copied identity, as of a golden image, is noticed: heartbeats name the machine that sends them."""

from collections.abc import Callable
from datetime import timedelta

from apps.audit.selectors import audit_list
from controlplane.lib import clock
from tests.agents.conftest import stored_heartbeat
from tests.agents.machines import Machine
from tests.clients import problem

FIRST = {"boot_id": "b6b0d1a3-1111", "hostname": "build-1"}
COPY = {"boot_id": "77aa0c9e-2222", "hostname": "build-2"}
REBOOTED = {"boot_id": "0c0c0c0c-3333", "hostname": "build-1"}


def noticed() -> list[dict[str, object]]:
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return [dict(record.detail) for record in records if record.action == "agent.identity_copied"]


def test_a_second_machine_with_the_same_identity_is_refused_with_a_sentence_that_names_both(machine: Machine) -> None:
    assert machine.heartbeat(**FIRST).status_code == 200
    message = problem(machine.heartbeat(**COPY), 409, "identity_in_use")["detail"]
    assert "build-1 has it" in message
    assert "build-2 asks for it" in message
    assert "enrol it anew" in message
    assert machine.heartbeat(**FIRST).status_code == 200


def test_the_audit_trail_records_a_copy_once_and_not_with_each_heartbeat(machine: Machine) -> None:
    machine.heartbeat(**FIRST)
    for _ in range(5):
        problem(machine.heartbeat(**COPY), 409, "identity_in_use")
        problem(machine.heartbeat(**REBOOTED), 409, "identity_in_use")
        assert machine.heartbeat(**FIRST).status_code == 200
    assert noticed() == [{"hostname": "build-1", "other_hostname": "build-2"}]


def test_a_machine_that_was_restarted_is_taken_again_after_a_lease(machine: Machine) -> None:
    machine.heartbeat(**FIRST)
    with clock.shifted(timedelta(seconds=44)):
        problem(machine.heartbeat(**REBOOTED), 409, "identity_in_use")
    with clock.shifted(timedelta(seconds=46)):
        assert machine.heartbeat(**REBOOTED).status_code == 200
        problem(machine.heartbeat(**FIRST), 409, "identity_in_use")
    found = stored_heartbeat(machine.agent_id)
    assert (found.boot_id, found.hostname) == (REBOOTED["boot_id"], "build-1")


def test_a_copy_on_the_same_host_is_noticed_by_its_host_name(machine: Machine) -> None:
    machine.heartbeat(**FIRST)
    problem(machine.heartbeat(**{**FIRST, "hostname": "container-2"}), 409, "identity_in_use")


def test_an_agent_of_an_earlier_version_names_no_machine_and_is_taken(machine: Machine) -> None:
    assert machine.heartbeat().status_code == 200
    assert machine.heartbeat(**FIRST).status_code == 200
    assert machine.heartbeat().status_code == 200
    assert machine.heartbeat(boot_id=None, hostname=None).status_code == 200
    problem(machine.heartbeat(**COPY), 409, "identity_in_use")


def test_two_machines_that_were_enrolled_apart_are_two_agents(make_machine: Callable[..., Machine]) -> None:
    for named in (FIRST, COPY):
        assert make_machine().heartbeat(**named).status_code == 200
