"""The paths at which the control plane tells of itself."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from controlplane import api

urlpatterns = [
    path("info", api.InfoView.as_view(), name="info"),
    path("docs", api.docs, name="docs"),
    path("schema", SpectacularAPIView.as_view(), name="schema"),
]
