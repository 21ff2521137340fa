"""The tasks of each minute: their order, and their shares of the time that Lambda gives them."""

from controlplane.schedules import EACH_MINUTE, Task


def test_each_minute_has_these_tasks_in_this_order() -> None:
    """Object storage may fail or be slow when DynamoDB works, so logs come late; other people's systems come last."""
    assert [task.name for task in EACH_MINUTE] == [
        "agents_mark_silent",
        "leases_expire",
        "runs_advance",
        "schedules_start",
        "events_work",
        "gauges_measure",
        "sets_prune",
        "queue_reconcile",
        "retired_agents_delete",
        "identity_keys_rotate",
        "stored_files_expire",
        "audit_seal",
        "holds_copy",
        "logs_archive",
        "audit_seals_copy",
        "audit_ship",
        "deliveries_reconcile",
        "rotations_advance",
        "outbox_work",
    ]


def test_each_task_over_a_long_list_has_a_share_of_the_time_that_lambda_gives() -> None:
    shares = {task.name: task.seconds for task in EACH_MINUTE if task.seconds}
    assert shares.keys() == {task.name for task in EACH_MINUTE} - {
        "gauges_measure",
        "identity_keys_rotate",
        "logs_archive",
    }
    # Lambda ends the sweep after 29 s. Storing logs takes 10 s of them.
    assert sum(shares.values()) <= 29 - 10 - 5


def test_a_task_with_a_share_of_the_time_is_run_for_that_long() -> None:
    assert Task("some", lambda *, seconds: seconds, seconds=3)() == 3
    assert Task("some", lambda: 7)() == 7


def test_only_the_outbox_gets_what_the_others_have_left_of_their_shares() -> None:
    """A target with many messages would otherwise get a few in a minute."""
    assert [task.name for task in EACH_MINUTE if task.takes_rest] == ["outbox_work"]
    assert Task("some", lambda *, seconds: seconds, seconds=3)(left=4) == 3
    assert Task("some", lambda *, seconds: seconds, seconds=3, takes_rest=True)(left=4) == 7
