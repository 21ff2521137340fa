"""Traces for X-Ray: what a request did inside the segment that Lambda makes of each invocation.

Lambda decides which invocations are traced, and sets _X_AMZN_TRACE_ID for them. For each of them, one datagram with a
subsegment of the calls to DynamoDB goes to the daemon beside the function. See docs/decisions/0015.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.lib import clock
from controlplane.lib.work import Work


@contextmanager
def trace_followed(work: Work) -> Iterator[None]:
    """Trace the work in the block if this invocation is traced, and send the trace to X-Ray at the end."""
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
