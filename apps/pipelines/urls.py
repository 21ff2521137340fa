"""The paths of pipelines."""

from django.urls import path

from apps.pipelines import api

urlpatterns = [
    path("pipelines", api.PipelinesView.as_view(), name="pipelines"),
    path("pipelines/<str:name>", api.PipelineView.as_view(), name="pipeline"),
]
