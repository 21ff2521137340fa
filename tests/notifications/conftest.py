"""Targets, rules and messages for tests."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apps.jobs.services.announcements import outbox_work
from apps.notifications.selectors.deliveries import Delivery, delivery_list
from apps.notifications.selectors.targets import Target
from apps.notifications.senders.messages import Message
from apps.notifications.services import announce, rule_create, target_create
from apps.notifications.states import Occasion, TargetKind
from controlplane.lib import clock
from tests.conftest import OPERATOR
from tests.webhooks import Receiver, receiver


@pytest.fixture
def hook(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, tables: None) -> Iterator[Receiver]:
    """A receiver of webhooks on this machine, which may be reached."""
    settings.OUTGOING_NETWORKS = ["127.0.0.0/8", "::1/128"]
    with receiver(tmp_path) as (found, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        yield found


def target_made(hook: Receiver, kind: TargetKind = TargetKind.WEBHOOK, path: str = "/hook", **members: Any) -> Target:
    """A target at the receiver."""
    return target_create(actor=OPERATOR, name=path, kind=kind, url=hook.url + path, **members)[0]


def rule_made(target: Target, *occasions: Occasion, **patterns: Any) -> None:
    """Tell the target of these occasions, or of failures."""
    wanted = occasions or (Occasion.FAILED,)
    rule_create(actor=OPERATOR, target_id=str(target.target_id), occasions=[str(one) for one in wanted], **patterns)


def message(number: int = 1, **members: Any) -> Message:
    """A message about a failed run."""
    return Message(
        **{
            "type": "run.failed",
            "headline": "Failed",
            "subject": "self on main",
            "facts": [("Started by", "Ada")],
            "url": "https://ci.example.com/dashboard/runs/1",
            "link": "Open the run",
            "at": f"2026-11-27T06:00:00.{number:03}000Z",
            "data": {"number": number},
            "is_good": False,
            **members,
        }
    )


def happen(number: int = 1, occasion: Occasion = Occasion.FAILED, **members: Any) -> int:
    """Announce a message to those whose rules ask for it."""
    where = {"pipeline": "self", "branch": "main", **members}
    return announce(happening=f"test {number}", occasion=occasion, message=lambda: message(number), **where)


def sweep(*, after: timedelta = timedelta()) -> int:
    """Work off the outbox. Returns how many items are done."""
    with clock.shifted(after):
        return outbox_work(seconds=30)


def deliveries(target: Target | None = None) -> list[Delivery]:
    """The deliveries of a target or of all, the oldest first."""
    return delivery_list(target_id=str(target.target_id) if target else None).deliveries[::-1]
