"""The pages to come in and to leave."""

from django.urls import path

from apps.accounts import views

urlpatterns = [
    path("signin", views.signin, name="signin"),
    path("signout", views.signout, name="signout"),
]
