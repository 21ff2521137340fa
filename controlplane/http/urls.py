"""The paths of the control plane's own endpoints: health, information, and the API document."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from controlplane.http import about

urlpatterns = [
    path("info", about.InfoView.as_view(), name="info"),
    path("docs", about.docs, name="docs"),
    path("schema", SpectacularAPIView.as_view(), name="schema"),
]
