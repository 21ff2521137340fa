"""The paths of the audit trail."""

from django.urls import path

from apps.audit.api import (
    AuditExportView,
    AuditView,
    HoldEventsView,
    HoldReleaseView,
    HoldsView,
    ProofView,
    SealsView,
)
from controlplane.http import converters  # noqa: F401 — registers them

urlpatterns = [
    path("audit", AuditView.as_view(), name="audit"),
    path("audit/export", AuditExportView.as_view(), name="audit-export"),
    path("audit/holds", HoldsView.as_view(), name="audit-holds"),
    path("audit/holds/<id:hold_id>/release", HoldReleaseView.as_view(), name="audit-hold-release"),
    path("audit/holds/<id:hold_id>/events", HoldEventsView.as_view(), name="audit-hold-events"),
    path("audit/seals", SealsView.as_view(), name="audit-seals"),
    path("audit/<str:event>/proof", ProofView.as_view(), name="audit-proof"),
]
