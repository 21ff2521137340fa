"""The paths to which providers of repositories send webhooks, apart from those that load DRF."""

from django.urls import path

from apps.jobs.api import webhooks

urlpatterns = [
    path("webhooks/<str:provider>", webhooks.webhook, name="webhook"),
    path("webhooks/<str:provider>/<str:connection_id>", webhooks.connection_webhook, name="connection-webhook"),
]
