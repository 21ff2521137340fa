"""Those who ask a server whose database is out."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from apps.accounts.services import api_token_create
from controlplane.lib.actor import SYSTEM
from tests.agents.machines import Machine
from tests.clients import Client
from tests.conftest import PASSWORD, ada_create
from tests.dashboard.conftest import ACCEPT, csrf_token
from tests.faults.world import World

Ask = Callable[[], requests.Response]

# Those of a report, which all other endpoints ignore.
REPORT_HEADERS = {"Report-Kind": "junit", "Report-File": "a.xml"}


class Askers:
    """A person's program, a browser that is signed in, and an agent that runs a job; all known to the server."""

    def __init__(self, server: str, world: World) -> None:
        user = ada_create("admin")
        self.program = Client(server, api_token_create(user=user, name="ci", actor=SYSTEM)[1])
        self.browser = Client(server)
        self.browser.session.headers["Accept"] = ACCEPT
        assert self.browser.post("/signin", data=self.sign_in_form()).status_code == 302
        identity = world.credentials
        self.machine = Machine(server, identity.agent_id, identity.key_id, identity.secret)
        self.job_id = world.running()
        assert self.program.get("/jobs").status_code == 200
        assert self.machine.heartbeat(running=[{"job_id": self.job_id, "attempt": 1}]).status_code == 200

    def sign_in_form(self) -> dict[str, str]:
        """Ada's, filled in on a fresh page; for a browser that is not signed in."""
        token = csrf_token(self.browser.get("/signin").text)
        return {"email": "ada@example.com", "password": PASSWORD, "csrfmiddlewaretoken": token}

    def of_the_program(self, method: str, path: str, **arguments: Any) -> Ask:
        return lambda: self.program.request(method, path.format(job=self.job_id), **arguments)

    def of_the_browser(self, path: str) -> Ask:
        return lambda: self.browser.get(path.format(job=self.job_id))

    def of_the_machine(self, method: str, path: str, body: bytes) -> Ask:
        whole = f"/agents/{self.machine.agent_id}/{path.format(job=self.job_id)}"

        def ask() -> requests.Response:
            headers = {**self.machine.signed(method, whole, body), **REPORT_HEADERS}
            return self.machine.request(method, whole, data=body, headers=headers)

        return ask


@pytest.fixture
def askers(server: str) -> Iterator[Askers]:
    world = World()
    yield Askers(server, world)
    world.close()
