"""Users, invitations, roles, API tokens and sessions in the admin. Importing the package registers their pages."""

from apps.accounts.admin import api_tokens, invitations, roles, sessions, users

__all__ = ["api_tokens", "invitations", "roles", "sessions", "users"]
