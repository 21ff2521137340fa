"""Coming in and leaving, for people and for the frontend."""

from django.urls import path

from apps.accounts.api import sessions
from apps.accounts.views import devices, sign_in

urlpatterns = [
    path("signin", sign_in.signin, name="signin"),
    path("signout", sign_in.signout, name="signout"),
    path("account/devices", devices.devices, name="devices"),
    path("account/devices/everywhere", devices.devices_end, name="devices-end"),
    path("account/devices/<str:device_id>/end", devices.device_end, name="device-end"),
    path("auth/validate", sessions.SessionValidateView.as_view(), name="session-validate"),
    path("auth/logout", sessions.SessionLogoutView.as_view(), name="session-logout"),
    path("auth/logout-everywhere", sessions.LogoutEverywhereView.as_view(), name="logout-everywhere"),
    path("auth/devices", sessions.DevicesView.as_view(), name="auth-devices"),
    path("auth/devices/<str:device_id>", sessions.DeviceView.as_view(), name="auth-device"),
]
