"""What a page asks a person for."""

from django import forms

from apps.accounts.services.users import MAX_EMAIL, MAX_PASSWORD


class SignInForm(forms.Form):
    """E-mail address and password. The address is only looked up, so it needs no more than to fit."""

    email = forms.CharField(
        label="E-mail address",
        max_length=MAX_EMAIL,
        widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        max_length=MAX_PASSWORD, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )
