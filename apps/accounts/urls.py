"""Signing in and out, for pages and for the frontend, and API tokens."""

from django.urls import path, re_path

from apps.accounts.api import callers, device_authorizations, sessions
from apps.accounts.api import tokens as api_tokens
from apps.accounts.views import device_authorization, devices, identities, invitations, oauth, sign_in
from apps.accounts.views import tokens as token_views
from controlplane.lib.ids import ID_PATTERN

urlpatterns = [
    path("signin", sign_in.signin, name="signin"),
    path("signout", sign_in.signout, name="signout"),
    path("oauth/<str:provider>/start", oauth.oauth_start, name="oauth-start"),
    path("oauth/<str:provider>/complete", oauth.oauth_complete, name="oauth-complete"),
    path("invitation", invitations.invitation, name="invitation"),
    path("invitation/accept", invitations.accept, name="invitation-accept"),
    path("account/identities", identities.identities, name="identities"),
    path("account/identities/disconnect", identities.identity_disconnect, name="identity-disconnect"),
    path("account/password", identities.password_change, name="password-change"),
    path("account/devices", devices.devices, name="devices"),
    path("account/devices/everywhere", devices.devices_end, name="devices-end"),
    path("account/devices/<str:device_id>/end", devices.device_end, name="device-end"),
    path("auth/session", sessions.SessionView.as_view(), name="auth-session"),
    path("auth/logout", sessions.SessionLogoutView.as_view(), name="session-logout"),
    path("auth/logout-everywhere", sessions.LogoutEverywhereView.as_view(), name="logout-everywhere"),
    path("auth/devices", sessions.DevicesView.as_view(), name="auth-devices"),
    path("auth/devices/<str:device_id>", sessions.DeviceView.as_view(), name="auth-device"),
    path("auth/whoami", callers.CallerView.as_view(), name="auth-whoami"),
    path(
        "auth/device-authorization",
        device_authorizations.DeviceAuthorizationView.as_view(),
        name="device-authorization",
    ),
    path("auth/device-token", device_authorizations.DeviceTokenView.as_view(), name="device-token"),
    path("device", device_authorization.device, name="device"),
    path("tokens", api_tokens.TokensView.as_view(), name="tokens"),
    re_path(rf"^tokens/(?P<token_id>{ID_PATTERN})$", api_tokens.TokenView.as_view(), name="token"),
    path("account/tokens", token_views.tokens, name="account-tokens"),
    re_path(
        rf"^account/tokens/(?P<token_id>{ID_PATTERN})/revoke$", token_views.token_revoke, name="account-token-revoke"
    ),
]
