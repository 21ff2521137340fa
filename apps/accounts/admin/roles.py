"""Roles in the admin."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from apps.accounts.policies import ROLES, Permission
from controlplane.nosql.admin.options import NosqlModelAdmin
from controlplane.nosql.admin.site import site


class Role(models.Model):
    """The admin wants a model for a page. Roles are code (`apps.accounts.policies`), so this one stores nothing."""

    class Meta:
        managed = False
        app_label = "accounts"

    def __str__(self) -> str:
        return "role"


class RoleAdmin(NosqlModelAdmin):
    """Which role allows what. Read only."""

    permissions = {"view": Permission.ACCOUNTS_MANAGE}  # noqa: RUF012

    def check(self, **_: Any) -> list[Any]:
        """Django's checks are about lists of records, and this page has none."""
        return []

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="accounts_role_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Roles",
            "opts": self.opts,
            "roles": list(ROLES),
            "rows": [
                (permission.value, [permission in allowed for allowed in ROLES.values()]) for permission in Permission
            ],
        }
        return TemplateResponse(request, "admin/roles.html", context)


site.register(Role, RoleAdmin)
