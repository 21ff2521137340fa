"""The paths of the control plane's own endpoints: health, information, and the API document."""

from django.urls import path

from controlplane.http import about, api_document, converters, guides  # noqa: F401 — converters registers them
from controlplane.http.stored_files import stored_file
from controlplane.lib.presigned_files import PREFIX

urlpatterns = [
    path("info", about.InfoView.as_view(), name="info"),
    path("docs", about.docs, name="docs"),
    path("docs/other-ci", guides.other_ci, name="docs-other-ci"),
    path("schema", api_document.schema, name="schema"),
    path(f"{PREFIX}<stored_name:name>", stored_file, name="stored-file"),
]
