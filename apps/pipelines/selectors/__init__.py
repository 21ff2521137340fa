"""Reading pipelines and their schedules."""

from typing import TYPE_CHECKING

from apps.pipelines.selectors.pipelines import (
    Pipeline,
    PipelinePage,
    pipeline_get,
    pipeline_list,
    pipeline_parsed,
    pipelines_bound,
    pipelines_bound_to,
    pipelines_by_repository,
    pipelines_paused,
)
from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.pipelines.selectors.schedules import (
        Schedule,
        schedule_cron,
        schedule_find,
        schedule_get,
        schedule_list,
        schedule_times,
        schedule_words,
        schedules_due,
    )

__all__ = [
    "Pipeline",
    "PipelinePage",
    "Schedule",
    "pipeline_get",
    "pipeline_list",
    "pipeline_parsed",
    "pipelines_bound",
    "pipelines_bound_to",
    "pipelines_by_repository",
    "pipelines_paused",
    "schedule_cron",
    "schedule_find",
    "schedule_get",
    "schedule_list",
    "schedule_times",
    "schedule_words",
    "schedules_due",
]

# The start of a job needs none of these.
__getattr__ = lazy_names(
    __name__,
    {
        "schedules": [
            "Schedule",
            "schedule_cron",
            "schedule_find",
            "schedule_get",
            "schedule_list",
            "schedule_times",
            "schedule_words",
            "schedules_due",
        ]
    },
)
