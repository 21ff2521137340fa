"""The report "Deployments": who deployed what, where and when, who approved or rejected it, and how it ended."""

from typing import Any

from apps.audit.actions import Action
from apps.dashboard.selectors.reports import Contents, Kind, Period, Row, columns, events_of, identifier, who

_ENDS = (Action.DEPLOYMENT_FINISHED, Action.DEPLOYMENT_REJECTED)
_NOT_ENDED = "not ended"


def _deployments(period: Period) -> Contents:
    ends: dict[Any, Any] = {}
    started: list[Any] = []
    for record in events_of(period, [Action.DEPLOYMENT_STARTED, *_ENDS]):
        detail = record.detail or {}
        if record.action == Action.DEPLOYMENT_STARTED:
            started.append(record)
        else:
            # A late report of a lost agent replaces what was recorded first.
            ends[detail.get("deployment_id") or record.entry] = record
    jobs = {(record.detail or {}).get("job_id") for record in started}
    found = [(record, ends.get((record.detail or {}).get("job_id"))) for record in started]
    found += [(end, end) for deployment_id, end in ends.items() if deployment_id not in jobs]
    rows = [_row(record, end) for record, end in sorted(found, key=lambda pair: str(pair[0].entry))]
    return Contents(
        rows,
        "Deployments that an agent has started, or that have ended, in the period",
        (
            "The time is that of the start. Of a deployment that did not start in the period, it is that of the end.",
            "“not ended” is how it was at the end of the period.",
        ),
    )


def _row(record: Any, end: Any) -> Row:
    detail = dict(record.detail or {})
    is_rejected = end is not None and end.action == Action.DEPLOYMENT_REJECTED
    return (
        str(record.at),
        identifier(record),
        *(detail.get(name) for name in ("pipeline", "git_ref", "commit", "requested_by", "approved_by")),
        str(end.result) if end is not None else _NOT_ENDED,
        who(end) if is_rejected else None,
        str(record.actor_name) if record.action == Action.DEPLOYMENT_STARTED else None,
        detail.get("job_id") or detail.get("deployment_id"),
    )


DEPLOYMENTS = Kind(
    "deployments",
    "Deployments",
    "Who deployed what, where and when, who approved or rejected it, and how it ended.",
    columns(
        *("Time", "Environment", "Pipeline", "Ref", "Commit", "Requested by", "Approved by", "Result", "Rejected by"),
        *("Agent", "Job"),
    ),
    _deployments,
)
