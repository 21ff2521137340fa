"""An office behind one address signs in, while a stranger on another address does his worst."""

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import requests

from apps.accounts.models import Identity, User
from controlplane.lib import clock
from tests.accounts.browser import Browser
from tests.accounts.provider import Person, Provider

OFFICE = "198.51.100.7"
# One client: an address, and addresses of his network.
STRANGER = ("203.0.113.9", "2001:db8:0:1::")

MACHINE = {"token": "hce_" + "x" * 43, "name": "m", "region": "eu-central-1", "labels": [], "slots": 1}

# Between two people: 200 come within five minutes.
PAUSE = timedelta(seconds=1.4)


class Stranger:
    """Tries what costs him nothing, on all ways in and in the names of the office's people."""

    def __init__(self, server: str, provider: Provider, people: list[Person]) -> None:
        self.server, self.provider, self.people = server, provider, people
        self.answers: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @contextmanager
    def at_work(self, threads: int = 2) -> Iterator[None]:
        workers = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            self._stopped.set()
            for worker in workers:
                worker.join()

    def _work(self, number: int) -> None:
        browser = Browser(self.server)
        csrf = {"csrfmiddlewaretoken": browser.csrf_token()}
        for turn in itertools.count(number):
            if self._stopped.is_set():
                return
            address, network = STRANGER
            browser.session.headers["X-Forwarded-For"] = f"{network}{turn:x}" if turn % 2 else address
            self._round(browser, csrf, self.people[turn % len(self.people)])

    def _round(self, browser: Browser, csrf: dict[str, str], victim: Person) -> None:
        foreign = self.provider.token(victim, client_id="another application")
        for provider, token in (("google", "made-up"), ("github", "made-up"), ("google", foreign)):
            body = {"user_id": victim.subject, "provider": provider, "oauth_tokens": {"access_token": token}}
            self._note("session", browser.post("/auth/session", json=body))
        form = {**csrf, "email": victim.email, "password": "a guess"}
        self._note("password", browser.post("/signin", data=form))
        self._note("return", browser.get("/oauth/google/complete?error=server_error"))
        self._note("return", browser.get("/oauth/github/complete", params={"code": "x", "state": "y" * 32}))
        self._note("start", browser.post("/oauth/google/start", data=csrf))
        self._note("enrolment", browser.post("/agents/enrol", json=MACHINE))

    def _note(self, way: str, answer: requests.Response) -> None:
        with self._lock:
            self.answers[way, answer.status_code] += 1


def come_in(browser: Browser, provider: Provider, person: Person, number: int) -> requests.Response:
    """Sign in as a person does: every third one makes a mistake first."""
    name = "github" if number % 4 == 0 else "google"
    provider.person = person
    if number % 3 == 0:
        provider.denies = number % 2 == 0
        mistaken = browser.agree(browser.go_to(name))
        provider.denies = False
        if number % 2:
            # Back to the sign-in page, and then again.
            mistaken = f"/oauth/{name}/complete?code=old&state={'z' * 32}"
        assert browser.get(mistaken).status_code in {400, 403}
    if number % 5 == 0:
        body = {"user_id": person.subject, "provider": name, "oauth_tokens": {"access_token": provider.token()}}
        return browser.post("/auth/session", json=body)
    return browser.sign_in_with(name)


@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.nightly)])
def test_an_office_of_200_signs_in_within_five_minutes_while_a_stranger_does_his_worst(
    count: int,
    server: str,
    browsers: Callable[[], Browser],
    provider: Provider,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    new_window: None,
) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1/32"]
    # As it is shipped, for 200 people; a smaller office has smaller limits, which the stranger reaches as well.
    settings.SIGN_IN_ATTEMPTS_PER_ADDRESS = 50 * count // 200
    people = [Person(subject=str(2000 + number), email=f"person{number}@example.com") for number in range(count)]
    stranger = Stranger(server, provider, people)
    office: list[Browser] = []
    answers = []
    with ExitStack() as passing:
        began, really_began = clock.now(), time.monotonic()
        with stranger.at_work():
            for number, person in enumerate(people):
                browser = browsers()
                browser.session.headers["X-Forwarded-For"] = OFFICE
                office.append(browser)
                answers.append(come_in(browser, provider, person, number).status_code)
                # On to the moment at which the next one comes.
                ahead = began + PAUSE * (number + 1) - clock.now()
                passing.enter_context(clock.shifted(max(ahead, timedelta())))
        took, really_took = clock.now() - began, time.monotonic() - really_began
    came_in = Counter(answers)
    print(
        f"{came_in[302] + came_in[200]} of {count} signed in within {took.total_seconds():.0f} s "
        f"({really_took:.1f} s of computing); the stranger sent {sum(stranger.answers.values())} requests:",
        ", ".join(f"{way} {status}: {number}" for (way, status), number in sorted(stranger.answers.items())),
    )
    assert came_in == {200: count // 5, 302: count - count // 5}
    assert all(browser.signed_in for browser, answer in zip(office, answers, strict=True) if answer == 302)
    assert took < timedelta(minutes=5)
    # The stranger was really there, and came in nowhere.
    statuses = {status for way, status in stranger.answers if way != "start"}
    assert statuses == {400, 401, 429}
    assert {status for way, status in stranger.answers if way == "start"} <= {302, 429}
    assert len(list(Identity.scan())) == len(list(User.scan())) == count
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
