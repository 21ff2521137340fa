"""``manage.py github_app``: an app from a terminal, with a browser on the same machine."""

import html
import re
import subprocess
import threading
from io import StringIO

import pytest
import requests
from django.core.management import call_command
from django.core.management.base import CommandError

from apps.sources.models import Connection
from tests.commands import command
from tests.sources.fake_provider import FakeProvider

pytestmark = pytest.mark.usefixtures("tables")
BASE = "https://ci.example.com"


class _Terminal(StringIO):
    """What the command prints; `address` is set with the first line."""

    def __init__(self) -> None:
        super().__init__()
        self.address = ""
        self.has_address = threading.Event()

    def write(self, text: str) -> int:
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+", text)
        if found:
            self.address = found[0]
            self.has_address.set()
        return super().write(text)


def test_an_app_is_created_with_a_browser_on_this_machine(provider: FakeProvider) -> None:
    terminal, failures = _Terminal(), []

    def run() -> None:
        try:
            call_command("github_app", url=BASE, github=provider.url, organisation="acme", stdout=terminal)
        except CommandError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert terminal.has_address.wait(10)
    origin = terminal.address.rpartition("/")[0]
    # Neither a page elsewhere whose name leads here, nor another user of the machine, nor another state gets through.
    assert requests.get(terminal.address, headers={"Host": "evil.example"}, timeout=5).status_code == 404
    assert requests.get(f"{origin}/", timeout=5).status_code == 404
    assert requests.get(f"{origin}/made?code=x&state=y", timeout=5).status_code == 404
    page = requests.get(terminal.address, timeout=5).text
    action, manifest = (
        html.unescape(found) for found in re.findall(r'(?:action|name="manifest" value)="([^"]+)"', page)
    )
    back = requests.post(action, data={"manifest": manifest}, allow_redirects=False, timeout=5).headers["Location"]
    assert back.startswith(f"{origin}/made?")
    assert requests.get(back, timeout=5).status_code == 200
    thread.join(10)
    assert failures == []
    connection = Connection.get("default", "github")
    assert connection.app_id == "4711"
    assert connection.secret("private_key")
    printed = terminal.getvalue()
    assert "The connection github has the GitHub App hybrid-ci." in printed
    assert f"{provider.url}/github-apps/hybrid-ci/installations/new" in printed
    assert "PRIVATE KEY" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say with --url by which address GitHub reaches the control plane"),
        (["--url", BASE, "--minutes", "61"], "--minutes must be 1 to 60"),
        (["--url", BASE, "--connection", "Git Hub"], "connection_id: must be 1 to 63 small letters"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], message: str) -> None:
    done: subprocess.CompletedProcess[str] = command("github_app", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
