"""Compliance reports for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from apps.dashboard.selectors.report_kinds import KINDS
from apps.dashboard.selectors.reports import Report, period_of, report_make
from controlplane.lib import clock


@contextmanager
def days_ago(days: int, *, hour: int = 12) -> Iterator[None]:
    """Inside the block it is so many days earlier, at a full hour of UTC."""
    moment = clock.now().replace(hour=hour, minute=0, second=0, microsecond=0) - timedelta(days=days)
    with clock.shifted(moment - clock.now()):
        yield


def report(name: str, days: int = 3, *, until: int = 0) -> Report:
    """The report from `days` days ago to `until` days ago, both included, made when that is over."""
    today = clock.now().date()
    period = (today - timedelta(days=days), today - timedelta(days=until))
    with clock.shifted(timedelta(days=1)):
        return report_make(KINDS[name], period_of(*period))


def made(name: str, days: int = 3, *, until: int = 0) -> list[dict[str, Any]]:
    """The rows of the report by their columns."""
    found = report(name, days, until=until)
    return [{column.title: cell for column, cell in zip(found.kind.columns, row, strict=True)} for row in found.rows]
