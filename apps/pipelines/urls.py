"""The paths of pipelines."""

from django.urls import path

from apps.pipelines import api, views

urlpatterns = [
    path("pipelines", api.PipelinesView.as_view(), name="pipelines"),
    path("pipelines/<str:name>", api.PipelineView.as_view(), name="pipeline"),
    path("definitions/check", api.DefinitionCheckView.as_view(), name="definition_check"),
    path("definitions/import", api.DefinitionImportView.as_view(), name="definition_import"),
    path("guide", views.guide, name="guide"),
    path("guide/<slug:name>", views.guide, name="guide_page"),
    path("schema/pipeline.json", views.schema, name="pipeline_schema"),
]
