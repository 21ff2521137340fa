"""The path at which frontends ask whether a session is valid, apart from those that load DRF and pages."""

from django.urls import path

from apps.accounts.api import validity

urlpatterns = [path("auth/validate", validity.session_validate, name="session-validate")]
