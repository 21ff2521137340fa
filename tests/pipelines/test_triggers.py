"""Whether an event starts a run, by what `on` says."""

from typing import Any

import pytest

from apps.pipelines.definitions.triggers import Trigger, Verdict, asks_to_skip, cancels_superseded, trigger_decide

MAIN = Trigger("push", branch="main", default_branch="main", paths=["src/a.py"])
SIDE = Trigger("push", branch="feature/x", default_branch="main", paths=["src/a.py"])
TAG = Trigger("tag", tag="v1.0")
OPENED = Trigger("pull_request", base="main", action="opened")
CLOSED = Trigger("pull_request", base="main", action="closed")


@pytest.mark.parametrize(
    ("on", "starts"),
    [
        ({}, [MAIN, OPENED]),
        ({"push": {}}, [MAIN, SIDE]),
        ({"push": {"branches": ["feature/*"]}}, [SIDE]),
        ({"push": {"branches": ["**"]}}, [MAIN, SIDE]),
        ({"push": {"paths": ["src/**"]}}, [MAIN, SIDE]),
        ({"push": {"paths": ["docs/**"]}}, []),
        ({"tag": {}}, [TAG]),
        ({"tag": {"names": ["v*"]}}, [TAG]),
        ({"tag": {"names": ["w*"]}}, []),
        ({"pull_request": {}}, [OPENED]),
        ({"pull_request": {"types": ["closed"]}}, [CLOSED]),
        ({"pull_request": {"branches": ["next"]}}, []),
        ({"schedule": [{"cron": "0 3 * * *"}]}, []),
        ({"push": {}, "tag": {}, "pull_request": {"types": ["opened", "closed"]}}, [MAIN, SIDE, TAG, OPENED, CLOSED]),
    ],
)
def test_events_start_runs_as_on_says(on: dict[str, Any], starts: list[Trigger]) -> None:
    assert [one for one in (MAIN, SIDE, TAG, OPENED, CLOSED) if trigger_decide(on, one).starts] == starts


def test_paths_that_are_not_known_are_asked_for_where_they_decide() -> None:
    unknown = Trigger("push", branch="main", default_branch="main")
    assert trigger_decide({"push": {"paths": ["src/**"]}}, unknown) == Verdict(asks_paths=True)
    assert trigger_decide({"push": {"paths": ["src/**"], "branches": ["x"]}}, unknown).reason
    assert trigger_decide({"push": {}}, unknown).starts


@pytest.mark.parametrize(
    ("message", "skips"),
    [
        ("Fix the cart", False),
        ("Fix the cart [skip ci]", True),
        ("[CI SKIP] Fix", True),
        ("Fix\n\nlong text [skip ci] in it", True),
        ("Fix\n\nskip-checks: true", True),
        ("Fix\n\nText\n\nSigned-off-by: Mona\nskip-checks:true\n", True),
        ("Fix\n\nskip-checks: false", False),
        ("Fix skip-checks: true", False),
        ("Fix\n\nskip-checks: true\n\nmore", False),
        ("", False),
        (None, False),
    ],
)
def test_a_message_may_ask_to_skip(message: str | None, skips: bool) -> None:
    assert asks_to_skip(message) is skips


def test_only_the_events_own_key_cancels_older_runs() -> None:
    on = {"push": {"cancel_superseded": True}, "pull_request": {}}
    assert [cancels_superseded(on, kind) for kind in ("push", "pull_request", "tag")] == [True, False, False]
