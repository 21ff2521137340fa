"""The documents for X-Ray's daemon: docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html"""

import json
import os
import re
import secrets
import socket
from typing import Any

from django.conf import settings

from controlplane.lib.work import Span, Work

_HEADER = b'{"format":"json","version":1}\n'
# The limit of a datagram on this machine. Of further calls, only their number is sent.
_MOST_SPANS = 150
# X-Ray accepts no other characters in names.
_NOT_IN_NAMES = re.compile(r"[^\w\s.:/%&#=+\\@-]", re.ASCII)


def subsegment_send(work: Work, *, header: str, began: float, ended: float) -> None:
    """Send the daemon a subsegment of the invocation that `header` (_X_AMZN_TRACE_ID) names. Times are since 1970.

    The function does not check whether a daemon receives it: a lost trace must not cause a failure.
    """
    address = os.environ.get("AWS_XRAY_DAEMON_ADDRESS", "")
    host, _, port = address.rpartition(":")
    parts = dict(part.split("=", 1) for part in header.split(";") if "=" in part)
    if not (host and port.isdigit() and "Root" in parts and "Parent" in parts):
        return
    document = {
        "trace_id": parts["Root"],
        "parent_id": parts["Parent"],
        "type": "subsegment",
        **_timed(work.route or "unmatched", began, ended),
        **_outcome(work),
        "annotations": _annotations(work),
        "metadata": {"dynamodb": {"read_units": work.read_units, "write_units": work.write_units}},
        "subsegments": [_call(span) for span in (work.spans or [])[:_MOST_SPANS]],
    }
    message = _HEADER + json.dumps(document, separators=(",", ":")).encode()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message, (host, int(port)))
    except OSError:
        return


def _timed(name: str, began: float, ended: float) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(8),
        "name": _NOT_IN_NAMES.sub("", name)[:200],
        "start_time": began,
        "end_time": ended,
    }


def _outcome(work: Work) -> dict[str, Any]:
    """In X-Ray's terms, an error is the client's, and a fault ours."""
    if work.status is None:
        return {"fault": work.failure is not None}
    return {
        "error": 400 <= work.status < 500,
        "fault": work.status >= 500,
        "http": {"response": {"status": work.status}},
    }


def _annotations(work: Work) -> dict[str, str | int]:
    """The values by which X-Ray can search for traces."""
    annotations = {
        "request_id": work.request_id,
        "route": work.route,
        "actor_kind": work.actor.kind if work.actor else None,
        "actor_id": work.actor.id if work.actor else None,
        "job_id": work.job_id,
        "agent_id": work.agent_id,
        "dynamodb_calls": work.dynamodb_calls,
    }
    return {name: value for name, value in annotations.items() if value is not None}


def _call(span: Span) -> dict[str, Any]:
    tables = {"table_name": span.tables[0]} if len(span.tables) == 1 else {"table_names": list(span.tables)}
    return {
        **_timed("DynamoDB", span.began, span.ended),
        "namespace": "aws",
        "fault": span.failed,
        "aws": {"operation": span.operation, **tables, "region": settings.AWS_REGION},
    }
