"""Writing pipelines and their schedules."""

from apps.pipelines.services.pipelines import (
    PipelineSaved,
    pipeline_delete,
    pipeline_pause,
    pipeline_rename_source,
    pipeline_resume,
    pipeline_save,
)
from apps.pipelines.services.schedules import (
    MAX_SCHEDULES,
    schedule_change,
    schedule_claim_add,
    schedule_create,
    schedule_delete,
    schedule_pass,
    schedule_pause,
    schedule_resume,
)

__all__ = [
    "MAX_SCHEDULES",
    "PipelineSaved",
    "pipeline_delete",
    "pipeline_pause",
    "pipeline_rename_source",
    "pipeline_resume",
    "pipeline_save",
    "schedule_change",
    "schedule_claim_add",
    "schedule_create",
    "schedule_delete",
    "schedule_pass",
    "schedule_pause",
    "schedule_resume",
]
