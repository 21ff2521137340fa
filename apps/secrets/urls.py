"""The paths of secrets."""

from django.urls import path

from apps.secrets import api

urlpatterns = [
    path("secrets", api.SecretsView.as_view(), name="secrets"),
    path("secrets/<str:secret_id>", api.SecretView.as_view(), name="secret"),
    path("secrets/<str:secret_id>/deliveries", api.SecretDeliveriesView.as_view(), name="secret_deliveries"),
    path("secrets/<str:secret_id>/rotate", api.SecretRotateView.as_view(), name="secret_rotate"),
    path("secrets/<str:secret_id>/rotation", api.SecretRotationView.as_view(), name="secret_rotation"),
    path("secrets/<str:secret_id>/rotations", api.SecretRotationsView.as_view(), name="secret_rotations"),
    path("secrets/<str:secret_id>/value", api.SecretValueView.as_view(), name="secret_value"),
    path("secrets/<str:secret_id>/versions", api.SecretVersionsView.as_view(), name="secret_versions"),
    path("rotations/<str:rotation_id>", api.RotationView.as_view(), name="rotation"),
    path("rotations/<str:rotation_id>/hasten", api.RotationHastenView.as_view(), name="rotation_hasten"),
    path("rotations/<str:rotation_id>/stop", api.RotationStopView.as_view(), name="rotation_stop"),
]
