"""A browser of the tests: keeps cookies, fills in forms, and goes to a provider and back."""

import re
from urllib.parse import urlsplit

import requests
from django.conf import settings

from tests.clients import Client
from tests.conftest import PASSWORD


class Browser(Client):
    """A user's browser. It follows no redirects, so that a test can check each step."""

    def csrf_token(self, path: str = "/signin") -> str:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path).text)
        assert found is not None, f"{path} has no form"
        return found[1]

    def send(self, path: str, *, page: str | None = None, **form: str) -> requests.Response:
        """Send the form of `page`; without one, that of the sign-in page, which is taken as read."""
        return self.post(path, data={"csrfmiddlewaretoken": self.csrf_token(page) if page else self._csrf(), **form})

    def _csrf(self) -> str:
        """What the sign-in page's form would send, by the cookie that the page would set."""
        if settings.CSRF_COOKIE_NAME not in self.session.cookies:
            host = urlsplit(self.server).hostname
            self.session.cookies.set(settings.CSRF_COOKIE_NAME, "a" * 32, domain=host, path="/")
        return str(self.session.cookies[settings.CSRF_COOKIE_NAME])

    def sign_in(self, email: str = "ada@example.com", password: str = PASSWORD) -> requests.Response:
        return self.send("/signin", email=email, password=password)

    def go_to(self, provider: str, **form: str) -> str:
        """Begin to sign in; the address at the provider that the browser is sent to."""
        answer = self.send(f"/oauth/{provider}/start", **form)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def agree(self, address: str) -> str:
        """Look at the provider's page and agree (or not); the path and query with which the provider sends back."""
        answer = requests.get(address, allow_redirects=False, timeout=10)
        assert answer.status_code == 302, answer.text
        assert answer.headers["Location"].startswith(self.server)
        return answer.headers["Location"].removeprefix(self.server)

    def sign_in_with(self, provider: str, **form: str) -> requests.Response:
        """The whole way."""
        return self.get(self.agree(self.go_to(provider, **form)))

    @property
    def cookie(self) -> str | None:
        return self.session.cookies.get(settings.SESSION_COOKIE_NAME)

    @property
    def signed_in(self) -> bool:
        return self.get("/account/devices").status_code == 200
