"""The apps' paths. JSON is at the root, as the contract requires; pages are under /dashboard.

A module is imported at the first request for one of its paths: agents' requests need neither DRF nor pages, and a cold
start pays for each import. The busiest paths come first.
"""

from django.urls import path
from django.views.generic import RedirectView

from controlplane.http import views
from controlplane.http.lazy_urls import LazyUrls
from controlplane.nosql.admin.resolver import LazyResolver

urlpatterns = [
    path("", views.root),
    path("health", views.health, name="health"),
    path("health/ready", views.ready, name="ready"),
    LazyUrls("apps.jobs.agent_urls", "agents/"),
    LazyUrls("apps.agents.agent_urls", "agents/", "agent.pyz"),
    LazyUrls("apps.jobs.agent_file_urls", "agents/"),
    LazyUrls("apps.agents.urls", "agents"),
    LazyUrls("apps.pipelines.urls", "definitions/", "guide", "pipelines", "schema/pipeline.json"),
    LazyUrls("apps.secrets.urls", "rotations/", "secrets"),
    LazyUrls("apps.secrets.identity_urls", ".well-known/"),
    LazyUrls("apps.jobs.webhook_urls", "webhooks/"),
    LazyUrls("apps.sources.urls", "connections"),
    LazyUrls(
        "apps.jobs.urls",
        "agents/demand",
        "artifacts/",
        "badges/",
        "connections/",
        "deployments",
        "environments",
        "jobs",
        "metrics",
        "overview",
        "pipelines/",
        "runs",
        "schedules/",
        "status",
    ),
    LazyUrls("apps.audit.urls", "audit"),
    LazyUrls("apps.notifications.urls", "notification-", "outbox/"),
    LazyUrls("apps.accounts.validity_urls", "auth/validate"),
    LazyUrls(
        "apps.accounts.urls", "account/", "auth/", "device", "invitation", "oauth/", "signin", "signout", "tokens"
    ),
    LazyUrls("controlplane.http.urls", "docs", "files/", "info", "schema"),
    path("dashboard", views.root),
    path("dashboard/", ("apps.dashboard.urls", "dashboard", "dashboard")),
    LazyResolver("admin/", "controlplane.admin_urls", namespace="admin"),
    path("admin", RedirectView.as_view(pattern_name="admin:index"), name="administration"),
]

handler400 = "controlplane.http.views.bad_request"
handler403 = "controlplane.http.views.forbidden"
handler404 = "controlplane.http.views.not_found"
handler500 = "controlplane.http.views.server_error"
