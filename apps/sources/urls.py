"""The paths of connections."""

from django.urls import path

from apps.sources import api

urlpatterns = [
    path("connections", api.ConnectionsView.as_view(), name="connections"),
    path("connections/<str:connection_id>", api.ConnectionView.as_view(), name="connection"),
    path("connections/<str:connection_id>/events", api.ConnectionEventsView.as_view(), name="connection-events"),
    path(
        "connections/<str:connection_id>/events/<str:event_id>",
        api.ConnectionEventView.as_view(),
        name="connection-event",
    ),
    path(
        "connections/<str:connection_id>/webhook-secret", api.ConnectionSecretView.as_view(), name="connection-secret"
    ),
    path(
        "connections/<str:connection_id>/repositories",
        api.ConnectionRepositoriesView.as_view(),
        name="connection-repositories",
    ),
    path(
        "connections/<str:connection_id>/installations",
        api.ConnectionInstallationsView.as_view(),
        name="connection-installations",
    ),
    path(
        "connections/<str:connection_id>/pipelines", api.ConnectionPipelinesView.as_view(), name="connection-pipelines"
    ),
]
