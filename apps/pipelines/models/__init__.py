"""The records of pipelines and of their schedules."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.pipelines.models.pipelines import SCOPE, Pipeline, PipelineBinding, binding_scope
    from apps.pipelines.models.schedules import DUE, SPACE, Schedule

__all__ = ["DUE", "SCOPE", "SPACE", "Pipeline", "PipelineBinding", "Schedule", "binding_scope"]

# Django imports this package at each cold start, and a heartbeat needs no pipeline.
__getattr__ = lazy_names(
    __name__,
    {"pipelines": ["SCOPE", "Pipeline", "PipelineBinding", "binding_scope"], "schedules": ["DUE", "SPACE", "Schedule"]},
)
