"""``GET /metrics``: queue and fleet for Prometheus.

It needs no permission of its own, because it shows what `jobs.read` and `agents.read` show, and what `secrets.read`
shows if the token has that. Counters restart at
midnight UTC; a year's sum would read 3,000 items at each scrape.
"""

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require
from apps.jobs.selectors.counters import DayOutcomes, job_outcomes
from apps.jobs.selectors.demand import Demand, RegionView, SetDemand, demand_get

# prometheus_client calls this version of the text format 0.0.4.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OF_REGIONS: list[tuple[str, str, Callable[[RegionView], float]]] = [
    ("hybrid_ci_slots", "Slots of healthy agents.", lambda region: region.capacity.slots),
    ("hybrid_ci_free_slots", "Slots of healthy agents that can take a job.", lambda region: region.capacity.free_slots),
]
# Only label sets in which jobs wait have these, and at most `apps.jobs.selectors.queue.FIGURED_SETS` of them.
_OF_LABEL_SETS: list[tuple[str, str, Callable[[SetDemand], float]]] = [
    ("hybrid_ci_label_set_waiting", "Jobs that wait for an agent.", lambda found: found.waiting),
    (
        "hybrid_ci_label_set_oldest_wait_seconds",
        "How long the oldest of them has waited.",
        lambda found: found.oldest_wait_seconds,
    ),
    (
        "hybrid_ci_label_set_slots",
        "Slots of healthy agents that could take these jobs.",
        lambda found: found.capacity.slots,
    ),
    ("hybrid_ci_label_set_free_slots", "Those of them that are free.", lambda found: found.capacity.free_slots),
    (
        "hybrid_ci_label_set_slots_missing",
        "Jobs for which no free slot is left. A slot counts for one label set.",
        lambda found: found.slots_missing,
    ),
]


class MetricsView(APIView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:  # noqa: ARG002 — DRF's
        """Ignore the Accept header of the scraper. Errors are JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        responses={
            (200, "text/plain"): OpenApiResponse(OpenApiTypes.STR, "Prometheus' text format, version 0.0.4."),
        },
        operation_id="metrics",
        tags=["control plane"],
    )
    def get(self, request: Request) -> HttpResponse:
        """Queue and fleet in Prometheus' format. Needs the permissions to read jobs and agents.

        With the permission to read secrets, it has the number of rotations that need a user, too.
        """
        actor = request_actor(request)
        permission_require(actor, Permission.JOBS_READ)
        permission_require(actor, Permission.AGENTS_READ)
        alarming = _rotations_alarming() if Permission.SECRETS_READ in actor.permissions else None
        text = exposition(demand_get(), job_outcomes(days=1)[-1], alarming)
        return HttpResponse(text, content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})


def _rotations_alarming() -> int:
    # Few control planes are scraped, and each one that starts would load it.
    from apps.secrets.selectors.rotations import rotations_alarming
    from controlplane.lib import clock

    return len(rotations_alarming(clock.now()))


def exposition(demand: Demand, today: DayOutcomes, alarming: int | None = None) -> bytes:
    """The figures in Prometheus' text format. `alarming` is the number of rotations that need a user."""
    # Imported here, because no other endpoint needs it, and few control planes are scraped.
    from prometheus_client import generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

    class Figures(Collector):
        def collect(self) -> Iterator[Metric]:
            build = GaugeMetricFamily("hybrid_ci_build_info", "Always 1.", labels=["version", "stage"])
            build.add_metric([settings.VERSION, settings.STAGE], 1)
            yield build
            yield GaugeMetricFamily("hybrid_ci_queue_depth", "Jobs that wait for an agent.", value=demand.waiting)
            yield GaugeMetricFamily(
                "hybrid_ci_queue_oldest_wait_seconds",
                "How long the oldest waiting job has waited; 0 without one.",
                value=demand.oldest_wait_seconds,
            )
            yield CounterMetricFamily(
                "hybrid_ci_jobs_created", "Jobs created since midnight, UTC.", value=today.created
            )
            ended = CounterMetricFamily("hybrid_ci_jobs_ended", "Jobs ended since midnight, UTC.", labels=["result"])
            for result in ("completed", "failed", "cancelled", "timed_out"):
                ended.add_metric([result], getattr(today, result))
            yield ended
            agents = GaugeMetricFamily("hybrid_ci_agents", "Agents.", labels=["region", "status"])
            for region in demand.regions:
                for status, count in sorted(region.statuses.items()):
                    agents.add_metric([region.name, status], count)
            yield agents
            for name, about, of_region in _OF_REGIONS:
                slots = GaugeMetricFamily(name, about, labels=["region"])
                for region in demand.regions:
                    slots.add_metric([region.name], of_region(region))
                yield slots
            for name, about, of_set in _OF_LABEL_SETS:
                figures = GaugeMetricFamily(name, about, labels=["labels"])
                for found in demand.sets:
                    figures.add_metric([found.name], of_set(found))
                yield figures
            if alarming is not None:
                yield GaugeMetricFamily(
                    "hybrid_ci_rotations_alarming",
                    "Secrets whose rotation has failed, does not get on, or is late.",
                    value=alarming,
                )

    return generate_latest(Figures())
