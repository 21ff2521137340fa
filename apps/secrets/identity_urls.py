"""The paths of what verifies identity tokens, apart from those that load DRF."""

from django.urls import path

from apps.secrets import views

urlpatterns = [
    path(".well-known/openid-configuration", views.discovery, name="openid-configuration"),
    path(".well-known/jwks.json", views.keys, name="jwks"),
]
