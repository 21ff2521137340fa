"""Which app answers which path. JSON stands at the root, as the contract has it; pages under /dashboard."""

from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView

from controlplane import views
from controlplane.nosql.admin.resolver import LazyResolver

urlpatterns = [
    path("", views.root),
    path("health", views.health, name="health"),
    path("info", views.InfoView.as_view(), name="info"),
    path("docs", views.docs, name="docs"),
    path("schema", SpectacularAPIView.as_view(), name="schema"),
    path("", include("apps.accounts.urls")),
    path("", include("apps.agents.urls")),
    path("", include("apps.jobs.urls")),
    path("dashboard/", include("apps.dashboard.urls")),
    LazyResolver("admin/", "controlplane.admin_urls", namespace="admin"),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
]

handler400 = "controlplane.views.bad_request"
handler403 = "controlplane.views.forbidden"
handler404 = "controlplane.views.not_found"
handler500 = "controlplane.views.server_error"
