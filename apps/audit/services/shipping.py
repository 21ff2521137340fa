"""The continuous export: sealed events are sent to a bucket and to a webhook, in order and at least once.

An event is sent once it is sealed, so nothing can come before it any more, and an event that was written late is in a
later seal. What was sent is noted after it was accepted. A process that ends in between sends the same part again,
under the same name and id. See docs/decisions/0042.
"""

import gzip
import hashlib
import json
import logging
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any

from django.conf import settings

from apps.audit.formats import Format
from apps.audit.models import AuditRecord, ExportState, entry_partition
from apps.audit.seals import Leaves, Seal, seal_document
from apps.audit.seals.copies import copy_write
from apps.audit.selectors.seals import leaves_from, seals_from
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.frozen import frozen
from controlplane.nosql.connection import ConditionFailed

logger = logging.getLogger(__name__)

# How many events one message or file has: DynamoDB reads them in five calls, and they have some hundred kilobytes.
PART_EVENTS = 500
# So many seals are read at once. A minute with events has one.
_SEALS_AT_ONCE = 20
# A claim lasts longer than one message can take.
_CLAIM = timedelta(seconds=60)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
# So long a target may fail before the sweep fails for it, which rings the alarm for the function's errors.
OVERDUE = timedelta(minutes=15)
# The seconds for one message, of the share that the task has.
_SEND_SECONDS = 4
_PROBLEM_CHARACTERS = 200


class _TargetFailed(Exception):
    """The target has not accepted a part. The text has no secret."""


@frozen
class _Part:
    """A part of a seal's events, and where it goes on. `name` is always the same for the same part."""

    seal: Seal
    leaves: Leaves
    first: int
    records: Sequence[AuditRecord]
    schema: str

    @property
    def is_last(self) -> bool:
        return self.first + PART_EVENTS >= len(self.leaves.entries)

    @property
    def name(self) -> str:
        return f"{self.seal.number:010d}-{self.first // PART_EVENTS:04d}"


@frozen
class _Target:
    name: str
    send: Callable[[_Part], None]


def audit_ship(*, seconds: float) -> int:
    """Send the sealed events that a target does not have yet. Returns how many were sent.

    It stops after `seconds` and what one message takes. A minute without events costs two reads for each target. A
    target that fails is asked again after a pause that doubles, up to an hour. Raises Unavailable when DynamoDB fails,
    or when a target has failed for more than 15 minutes.
    """
    ends_at = time.monotonic() + seconds
    sent = 0
    failing: list[str] = []
    for target in _targets():
        count, since = _ship(target, ends_at)
        sent += count
        if since and clock.now() - clock.parse_timestamp(since) > OVERDUE:
            failing.append(f"{target.name} since {since[:16]}")
    if failing:
        raise Unavailable(f"The audit trail cannot be exported: {', '.join(failing)}. Look at the log for the reason.")
    return sent


def _targets() -> Iterator[_Target]:
    if settings.AUDIT_EXPORT_BUCKET:
        yield _Target("bucket", _to_bucket)
    if settings.AUDIT_EXPORT_URL:
        yield _Target("webhook", _to_webhook)


def _ship(target: _Target, ends_at: float) -> tuple[int, str | None]:
    """Send what is due. Returns how many events were sent, and since when the target has failed."""
    state = ExportState.find(ExportState.KIND, target.name) or ExportState(ExportState.KIND, target.name)
    now = clock.timestamp(clock.now())
    since = str(state.failing_since) if state.failing_since else None
    if (state.retry_at and state.retry_at > now) or (state.claimed_until and state.claimed_until > now):
        return 0, since
    sent = 0
    is_claimed = False
    for part in _parts(state):
        if not is_claimed and not _claim(state):
            return 0, since
        is_claimed = True
        try:
            target.send(part)
        except _TargetFailed as error:
            return sent, _failed(state, target, str(error))
        since = None
        sent += len(part.records)
        if not _advance(state, part):
            # Another process has sent the same: this one was slower than its claim.
            return sent, None
        if time.monotonic() >= ends_at:
            break
    if is_claimed:
        _release(state)
    return sent, since


def _parts(state: ExportState) -> Iterator[_Part]:
    """The parts that follow the state, as long as they are asked for."""
    number, first = int(state.seal), int(state.part)
    while True:
        seals = list(islice(seals_from(number), _SEALS_AT_ONCE))
        if not seals:
            return
        leaves = dict(leaves_from(number, seals[-1].number))
        for seal in seals:
            found = leaves.get(seal.number, Leaves())
            for begin in range(first, max(1, len(found.entries)), PART_EVENTS):
                records = _records(found.entries[begin : begin + PART_EVENTS])
                yield _Part(seal, found, begin, records, settings.AUDIT_EXPORT_SCHEMA)
            number, first = seal.number + 1, 0


def _records(entries: Sequence[str]) -> list[AuditRecord]:
    """The events with these entries, in their order. One that is gone is left out: the seal has its hash."""
    found = {
        record.entry: record for record in AuditRecord.find_many((entry_partition(entry), entry) for entry in entries)
    }
    return [found[entry] for entry in entries if entry in found]


# --- where a target is ----------------------------------------------------------------------------------------------


def _claim(state: ExportState) -> bool:
    """Claim the target for the parts from the state on. False if another process is sending."""
    now = clock.now()
    until = clock.timestamp(now + _CLAIM)
    is_free = ExportState.claimed_until.does_not_exist() | (ExportState.claimed_until < clock.timestamp(now))
    try:
        state.update(
            actions=[
                ExportState.claimed_until.set(until),
                ExportState.seal.set(int(state.seal)),
                ExportState.part.set(int(state.part)),
            ],
            condition=is_free & (ExportState.target.does_not_exist() | _unmoved(state)),
        )
    except ConditionFailed:
        # Also if this process has claimed it, and the answer was lost: then the claim ends by itself.
        return False
    return True


def _unmoved(state: ExportState) -> Any:
    return (ExportState.seal == int(state.seal)) & (ExportState.part == int(state.part))


def _advance(state: ExportState, part: _Part) -> bool:
    """Note that the part was accepted, and claim the target for the next one."""
    now = clock.now()
    seal, first = (part.seal.number + 1, 0) if part.is_last else (part.seal.number, part.first + PART_EVENTS)
    changes: list[Any] = [
        ExportState.seal.set(seal),
        ExportState.part.set(first),
        ExportState.claimed_until.set(clock.timestamp(now + _CLAIM)),
        ExportState.sent_at.set(clock.timestamp(now)),
        *(name.remove() for name in _FAILING),
    ]
    try:
        state.update(actions=changes, condition=_unmoved(state))
    except ConditionFailed:
        return False
    return True


_FAILING = (ExportState.failing_since, ExportState.failures, ExportState.problem, ExportState.retry_at)


def _release(state: ExportState) -> None:
    with suppress(ConditionFailed):
        state.update(actions=[ExportState.claimed_until.remove()], condition=_unmoved(state))


def _failed(state: ExportState, target: _Target, problem: str) -> str:
    """Note that the target fails, and when it is tried again. Returns since when it fails."""
    now = clock.now()
    failures = int(state.failures or 0) + 1
    since = str(state.failing_since or clock.timestamp(now))
    # Above that the power would be a large number.
    pause = min(_FIRST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE)
    logger.warning("The audit trail could not be sent to the %s: %s", target.name, problem)
    with suppress(ConditionFailed):
        state.update(
            actions=[
                ExportState.failing_since.set(since),
                ExportState.failures.set(failures),
                ExportState.problem.set(problem[:_PROBLEM_CHARACTERS]),
                ExportState.retry_at.set(clock.timestamp(now + pause)),
                ExportState.claimed_until.remove(),
            ],
            condition=_unmoved(state),
        )
    return since


# --- the targets ----------------------------------------------------------------------------------------------------


def _to_bucket(part: _Part) -> None:
    """Store the part as a file of JSON Lines. The file with a seal's last events ends with the seal itself.

    All files one after the other are an export that `audit_verify --export` can check.
    """
    # Only those who export need the client.
    from controlplane.lib.aws import client, failures_named

    lines = b"".join(Format().line(record).encode() for record in part.records)
    if part.is_last:
        lines += copy_write(part.seal, part.leaves) + b"\n"
    # Without a time in it, the same part is the same file.
    data = gzip.compress(lines, mtime=0)
    day = part.seal.statement.through[:10].replace("-", "/")
    try:
        with failures_named("S3"):
            client("s3", hurried=True).put_object(
                Bucket=settings.AUDIT_EXPORT_BUCKET,
                Key=f"audit/{day}/{part.name}.jsonl.gz",
                Body=data,
                ContentType="application/gzip",
                ChecksumSHA256=b64encode(hashlib.sha256(data).digest()).decode(),
            )
    except Unavailable as error:
        cause = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code") or type(error.__cause__).__name__
        raise _TargetFailed(f"S3 refuses or does not answer: {cause}") from error


def _to_webhook(part: _Part) -> None:
    """Send the part as a signed message, as Standard Webhooks has it."""
    from controlplane.lib.outgoing import OutgoingFailed, OutgoingRefused, outgoing_post
    from controlplane.lib.webhook_signature import webhook_headers

    form = Format("jsonl", "ocsf") if part.schema == "ocsf" else Format()
    body = json.dumps(
        {
            "type": "audit.events",
            "timestamp": part.seal.statement.sealed_at,
            "data": {
                "stage": settings.STAGE,
                "part": part.name,
                "schema": part.schema,
                "events": [json.loads(form.line(record)) for record in part.records],
                "seal": seal_document(part.seal) if part.is_last else None,
            },
        },
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode("utf-8", "replace")
    # The digest tells this trail from that of another stage that sends to the same address.
    message_id = f"audit_{part.seal.statement.digest[:16]}_{part.name}"
    try:
        headers = webhook_headers(
            secrets=[settings.AUDIT_EXPORT_SECRET], message_id=message_id, timestamp=clock.epoch(), body=body
        )
        answer = outgoing_post(
            settings.AUDIT_EXPORT_URL, body, {"Content-Type": "application/json", **headers}, seconds=_SEND_SECONDS
        )
    except (OutgoingFailed, OutgoingRefused, ValueError) as error:
        raise _TargetFailed(str(error)) from error
    if not 200 <= answer.status < 300:
        raise _TargetFailed(f"it answers with {answer.status}")
