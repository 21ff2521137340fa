"""Traces for X-Ray: what a request did inside the segment that Lambda itself makes of each invocation.

Lambda decides which invocations are traced, and says so in _X_AMZN_TRACE_ID. For those a subsegment with the calls to
DynamoDB in it goes to the daemon beside the function, as one datagram. See docs/decisions/0015.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.lib import clock
from controlplane.lib.work import Work


@contextmanager
def trace_followed(work: Work) -> Iterator[None]:
    """Follow the work through the block if this invocation is traced, and tell X-Ray of it at the end."""
    header = os.environ.get("_X_AMZN_TRACE_ID", "")
    if "Sampled=1" not in header:
        yield
        return
    work.spans = []
    began = clock.now().timestamp()
    try:
        yield
    except BaseException as failure:
        work.failure = failure
        raise
    finally:
        from controlplane.observability.xray import subsegment_send

        subsegment_send(work, header=header, began=began, ended=clock.now().timestamp())
