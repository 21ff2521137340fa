"""The metrics of queue and fleet that are measured each minute."""

from collections import Counter

from apps.agents.selectors import fleet_counts
from apps.jobs.selectors.queue import queue_figures
from controlplane.lib import metric_names
from controlplane.lib.work import measure


def gauges_measure() -> None:
    """Measure how many jobs wait and for how long, and how many agents have each status."""
    queue = queue_figures()
    measure(metric_names.QUEUE_DEPTH, queue.depth)
    measure(metric_names.OLDEST_WAIT, queue.oldest_wait_seconds)
    agents = Counter[str]()
    for statuses in fleet_counts().values():
        agents.update(statuses)
    for status, name in metric_names.AGENTS.items():
        measure(name, agents[status])
