"""Who hears of what: rules by pipeline, branch and occasion; broken and fixed are exact."""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.notifications.models import RULES, TARGETS, BranchResult, Rule, Target
from apps.notifications.services import target_delete
from apps.notifications.services.announcing import CANCELLED, FAILED, SUCCEEDED, RunEnd, run_end_announce
from apps.notifications.states import Occasion
from controlplane.lib import clock
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction
from tests.conftest import OPERATOR
from tests.examples import examples
from tests.interleaving import every_order
from tests.notifications.conftest import deliveries, happen, message, rule_made, sweep, target_made
from tests.properties.consistency import tables_empty
from tests.webhooks import Receiver

_numbers = itertools.count()
LATER = "2026-11-27T10:00:00.{:03}000Z"


def ended(
    result: str, *, run_id: str | None = None, at: int = 0, branch: str = "main", number: int | None = None
) -> int:
    """The run of the pipeline has ended. Returns how many targets hear of it."""
    at = at if run_id else next(_numbers)
    run_id = run_id or new_id()
    end = RunEnd(f"run {run_id} {at}", run_id, "self", branch, result, LATER.format(at))
    return run_end_announce(
        end, message=lambda occasion: message(next(_numbers) if number is None else number, headline=str(occasion))
    )


def headlines() -> list[str]:
    return [delivery.message["headline"] for delivery in deliveries()]


@pytest.mark.parametrize(
    ("pipelines", "branches", "heard"),
    [
        ([], [], True),
        (["self"], ["main"], True),
        (["other", "se*"], [], True),
        (["other"], [], False),
        ([], ["release/*"], False),
    ],
)
def test_a_rule_concerns_the_pipelines_and_branches_that_its_patterns_match(
    hook: Receiver, pipelines: list[str], branches: list[str], heard: bool
) -> None:
    rule_made(target_made(hook), pipelines=pipelines, branches=branches)
    assert happen() == int(heard)
    assert happen(2, Occasion.DEPLOYED) == 0


def test_what_has_no_branch_concerns_only_rules_without_patterns_of_branches(hook: Receiver) -> None:
    rule_made(target_made(hook, path="/1"), Occasion.ROTATION_FAILED)
    rule_made(target_made(hook, path="/2"), Occasion.ROTATION_FAILED, branches=["*"])
    assert happen(1, Occasion.ROTATION_FAILED, pipeline=None, branch=None) == 1


def test_two_rules_of_a_target_make_one_message(hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target, Occasion.FAILED)
    rule_made(target, Occasion.FAILED, Occasion.FAILED_AFTER_SUCCESS)
    assert ended(FAILED) == 1


def test_the_same_happening_is_announced_once(hook: Receiver) -> None:
    rule_made(target_made(hook))
    assert (happen(1), happen(1), len(deliveries())) == (1, 0, 1)
    run_id = new_id()
    assert (ended(FAILED, run_id=run_id), ended(FAILED, run_id=run_id), len(deliveries())) == (1, 0, 2)


def test_a_branch_that_breaks_and_is_fixed_says_so_once_each(hook: Receiver) -> None:
    rule_made(target_made(hook), Occasion.FAILED_AFTER_SUCCESS, Occasion.FIXED)
    for result in (SUCCEEDED, FAILED, FAILED, CANCELLED, FAILED, SUCCEEDED, CANCELLED, SUCCEEDED, FAILED):
        ended(result)
    assert headlines() == ["failed_after_success", "fixed", "failed_after_success"]
    # Another branch has a result of its own, and its first failure is news.
    assert (ended(SUCCEEDED, branch="other"), ended(FAILED, branch="new")) == (0, 1)


def test_a_run_that_is_run_again_and_succeeds_fixes_its_branch(hook: Receiver) -> None:
    rule_made(target_made(hook), Occasion.FIXED)
    run_id = new_id()
    ended(FAILED, run_id=run_id, at=1)
    assert ended(SUCCEEDED, run_id=run_id, at=2) == 1


def test_a_late_end_of_an_older_run_says_nothing_about_the_branch(hook: Receiver) -> None:
    rule_made(target_made(hook), Occasion.FAILED_AFTER_SUCCESS, Occasion.FIXED)
    older, newer = new_id(), new_id()
    ended(SUCCEEDED, run_id=newer)
    assert ended(FAILED, run_id=older) == 0
    assert ended(SUCCEEDED) == 0
    rule_made(target_made(hook, path="/all"), Occasion.FAILED)
    assert ended(FAILED, run_id=older, at=2) == 1
    assert headlines() == ["failed"]


def test_the_result_of_a_branch_without_runs_for_half_a_year_is_not_known_any_more(hook: Receiver) -> None:
    rule_made(target_made(hook), Occasion.FIXED)
    ended(FAILED)
    with clock.shifted(timedelta(days=180)):
        assert ended(SUCCEEDED) == 0
        ended(FAILED)
        assert ended(SUCCEEDED) == 1


def expected(results: Sequence[str]) -> list[str]:
    """What those who want to hear of changes hear, by the definition."""
    heard, before = [], SUCCEEDED
    for index, result in enumerate(results):
        if result == CANCELLED:
            continue
        known = any(one != CANCELLED for one in results[:index])
        if result == FAILED and before != FAILED:
            heard.append("failed_after_success")
        if result == SUCCEEDED and before == FAILED and known:
            heard.append("fixed")
        before = result
    return heard


@settings(max_examples=examples(5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(results=st.lists(st.sampled_from([SUCCEEDED, FAILED, CANCELLED]), max_size=6))
def test_any_sequence_of_results_is_heard_as_its_changes(hook: Receiver, results: list[str]) -> None:
    tables_empty()
    rule_made(target_made(hook), Occasion.FAILED_AFTER_SUCCESS, Occasion.FIXED)
    for result in results:
        ended(result)
    assert headlines() == expected(results)


def test_two_ends_at_once_are_told_one_after_the_other(hook: Receiver) -> None:
    """In whichever order, one failure is the first."""
    for order in every_order():
        tables_empty()
        rule_made(target_made(hook), Occasion.FAILED_AFTER_SUCCESS)
        first, second = new_id(), new_id()
        counts = order.race(partial(ended, FAILED, run_id=first), partial(ended, FAILED, run_id=second))
        assert sorted(map(str, counts)) == ["0", "1"]
        (row,) = BranchResult.query("results#self")
        assert row.run_id == second


def test_a_rule_whose_target_is_deleted_meanwhile_tells_nobody(hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target)
    target_delete(actor=OPERATOR, target_id=str(target.target_id))
    assert happen() == 0
    assert sweep() == 0


def test_forty_targets_hear_by_one_transaction(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps: dict[str, Any] = dict.fromkeys(("created_at", "created_by", "changed_at", "changed_by"), "x")
    for _ in range(40):
        target_id = new_id()
        Target(TARGETS, target_id, name="x", kind="webhook", shown="x", encrypted="x", **stamps).save()
        Rule(RULES, new_id(), target_id=target_id, occasions=["failed"], **stamps).save()
    commits: list[int] = []
    commit = Transaction.commit

    def counted(self: Transaction, **options: int) -> None:
        commits.append(1)
        commit(self, **options)

    monkeypatch.setattr(Transaction, "commit", counted)
    assert ended(FAILED) == 40
    assert len(commits) == 1
