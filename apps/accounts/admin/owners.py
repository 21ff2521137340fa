"""Finding tokens and sessions in the admin by the user they belong to."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from apps.accounts.selectors import user_by_email, user_get
from apps.accounts.services.users import MAX_EMAIL
from controlplane.nosql.admin.filters import FieldFilter

# No user has this id.
_NO_USER = "-"


def owner_asked(asked: Mapping[str, Any]) -> list[str] | None:
    """For a `Listing` by user: the user of the condition ``user_id``, if there is one."""
    return [asked["user_id"]] if "user_id" in asked else None


def owner_id(email: str) -> str:
    """The id of the user with this address, or one that no user has."""
    found = user_by_email(email) if len(email) <= MAX_EMAIL else None
    return found.user_id if found else _NO_USER


class OwnerFilter(FieldFilter):
    """Set by a link on a user's page, or by a search for their address: there are too many users to choose from."""

    title = "user"
    parameter_name = "user_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        user_id = request.GET.get("user_id", "")
        user = user_get(user_id) if 1 <= len(user_id.encode("utf-8", "replace")) <= 100 else None
        return [(user.user_id, user.email)] if user else []
