"""Requests to addresses that users name: https only, to public addresses only, to the address that was checked."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.lib.errors import InvalidInput
from controlplane.lib.outgoing import (
    OutgoingFailed,
    OutgoingRefused,
    outgoing_post,
    outgoing_url_require,
)
from tests.webhooks import Receiver, receiver


@pytest.fixture
def target(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver on this machine that may be reached."""
    settings.OUTGOING_NETWORKS = ["127.0.0.0/8", "::1/128"]
    with receiver(tmp_path) as (found, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        yield found


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name lead to these addresses; returns the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_body_is_posted_with_its_headers(target: Receiver) -> None:
    target.answer = lambda _request: (202, {"Content-Length": "2"})
    answer = outgoing_post(f"{target.url}/in?tenant=1", b"{}", {"X-One": "1"}, seconds=5)
    (request,) = target.requests
    assert (request.path, request.body, request.headers["x-one"]) == ("/in?tenant=1", b"{}", "1")
    assert answer.status == 202


def test_no_redirect_is_followed(target: Receiver) -> None:
    target.answer = lambda _request: (302, {"Location": "http://169.254.169.254/latest/meta-data/"})
    assert outgoing_post(target.url, b"", {}).status == 302
    assert len(target.requests) == 1


def test_no_proxy_of_the_environment_is_used(target: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert outgoing_post(target.url, b"", {}).status == 204


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com:port/",
        "https://exa mple.com/",
        "https://example.com/\r\nX: 1",
        "https://éxample.com/",
        "file:///etc/passwd",
        "example.com",
        "",
    ],
)
def test_only_plain_https_urls_are_requested(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, "203.0.113.1")
    with pytest.raises(OutgoingRefused, match="must be an https URL"):
        outgoing_post(url, b"", {})
    with pytest.raises(InvalidInput) as refused:
        outgoing_url_require(url, field="url")
    assert refused.value.errors[0]["field"] == "url"
    assert asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
    ],
)
def test_an_address_that_is_not_public_is_refused_by_whatever_name(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_a, **_k: pytest.fail("it has connected"))
    resolving(monkeypatch, "93.184.216.34", address)
    with pytest.raises(OutgoingRefused, match="not a public address"):
        outgoing_post("https://hooks.example.com/", b"", {})
    literal = f"[{address}]" if ":" in address else address
    if "%" not in address:
        with pytest.raises(InvalidInput):
            outgoing_url_require(f"https://{literal}/", field="url")


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost", "0177.0.0.1"])
def test_other_spellings_of_this_machine_are_refused(host: str) -> None:
    with pytest.raises((OutgoingRefused, OutgoingFailed)):
        outgoing_post(f"https://{host}/", b"", {}, seconds=2)


def test_a_network_of_the_setting_is_allowed_and_others_stay_refused(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OUTGOING_NETWORKS = ["10.1.2.0/24"]
    outgoing_url_require("https://10.1.2.3/", field="url")
    with pytest.raises(InvalidInput):
        outgoing_url_require("https://10.1.3.3/", field="url")
    resolving(monkeypatch, "10.1.2.3", "10.1.3.3")
    with pytest.raises(OutgoingRefused):
        outgoing_post("https://both.example.com/", b"", {})


def test_a_name_is_resolved_once_and_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = resolving(monkeypatch, "93.184.216.34")
    connected: list[str] = []

    def connect(address: tuple[str, int], timeout: float) -> Any:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(OutgoingFailed):
        outgoing_post("https://hooks.example.com/", b"", {})
    assert asked == ["hooks.example.com"]
    assert connected == ["93.184.216.34"]


def test_a_certificate_of_another_name_or_authority_is_refused(
    target: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    with pytest.raises(OutgoingFailed, match="certificate is not valid"):
        outgoing_post(target.url, b"", {})
    assert target.requests == []


def test_a_server_that_answers_byte_by_byte_gets_no_more_time(target: Receiver) -> None:
    # It would take more than two seconds.
    target.pause = 0.05
    began = time.monotonic()
    with pytest.raises(OutgoingFailed, match="time is over"):
        outgoing_post(target.url, b"", {}, seconds=0.3)
    assert time.monotonic() - began < 1.5


def test_a_server_that_does_not_answer_gets_no_more_time(settings: Any) -> None:
    """Its handshake never ends: no one accepts the connection."""
    settings.OUTGOING_NETWORKS = ["127.0.0.0/8"]
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(OutgoingFailed, match="time is over"):
        outgoing_post(f"https://127.0.0.1:{listener.getsockname()[1]}/", b"", {}, seconds=0.2)


def test_messages_have_no_secret_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "10.0.0.1")
    with pytest.raises(OutgoingRefused) as refused:
        outgoing_post("https://hooks.example.com/services/T0/s3cr3t?token=s3cr3t", b"", {})
    assert "s3cr3t" not in str(refused.value)
