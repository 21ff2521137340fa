"""``hci status``: how the parts of the control plane are, and an exit code for monitors."""

from apps.jobs.services.sweeps import sweep_note
from tests.cli.conftest import hci
from tests.clients import Client


def test_it_lists_the_parts_and_fails_if_one_of_them_is_failing(user: Client) -> None:
    before = hci("status")
    assert before.code == 1
    assert "failing  They have not run yet." in before.out
    sweep_note(failed=["logs_archive"])
    after = hci("status")
    assert after.code == 0
    assert "degraded  The last time, these failed: logs_archive." in after.out
    assert hci("status", "--json").json["health"] == "degraded"
