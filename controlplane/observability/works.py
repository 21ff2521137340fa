"""Works other than requests: schedules and management commands."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from controlplane.lib.ids import new_id
from controlplane.lib.work import Work, at_work, current_work
from controlplane.observability.logs import work_costs
from controlplane.observability.metrics import process_metrics
from controlplane.observability.traces import trace_followed

logger = logging.getLogger(__name__)


@contextmanager
def observed(name: str, *, request_id: str | None = None) -> Iterator[None]:
    """Record the block as the work `name`, unless it is part of another work, and then write its metrics.

    A failure is logged and raised again.
    """
    if current_work() is not None:
        yield
        return
    began = time.perf_counter()
    work = Work(request_id=request_id or new_id(), route=name)
    try:
        with at_work(work):
            try:
                with trace_followed(work):
                    yield
            except Exception as failure:
                logger.exception("%s failed", name, extra={"code": getattr(failure, "code", None)})
                raise
            milliseconds = round((time.perf_counter() - began) * 1000, 2)
            logger.info("%s: done in %.0f ms", name, milliseconds, extra=work_costs(work, milliseconds))
    finally:
        if settings.METRICS_EMF:
            process_metrics.add(work.measures)
            # This process may have no further work that would write them.
            process_metrics.write(at_once=True)
