"""The continuous export: sealed events are sent to a webhook and a bucket, in order, at least once."""

import base64
import gzip
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apps.audit.models import ExportState
from apps.audit.seals.exported import export_verify
from apps.audit.selectors.seals import trusted_keys
from apps.audit.services import shipping
from apps.audit.services.sealing import audit_seal
from apps.audit.services.shipping import OVERDUE, audit_ship
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from tests.audit.sealed import copies_clear, seal_now, sealed_trail
from tests.audit.trail import event, write
from tests.conftest import CloudServices
from tests.faults.injection import Fault, fault
from tests.metering import dynamodb_calls
from tests.webhooks import Receiver, receiver

pytestmark = pytest.mark.usefixtures("tables")
KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    copies_clear()


@pytest.fixture
def siem(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The receiver of the webhook, which the settings name."""
    settings.OUTGOING_NETWORKS = ["127.0.0.0/8", "::1/128"]
    settings.AUDIT_EXPORT_SECRET = SECRET
    with receiver(tmp_path) as (found, certificate):
        settings.AUDIT_EXPORT_URL = f"{found.url}/audit"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        yield found


def ship(after: timedelta = timedelta()) -> int:
    with clock.shifted(after):
        return audit_ship(seconds=30)


def messages(siem: Receiver) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in siem.requests]


def targets(siem: Receiver) -> list[str]:
    return [one["target"] for message in messages(siem) for one in message["data"]["events"]]


def test_sealed_events_are_sent_in_their_order_and_once_when_all_is_well(siem: Receiver) -> None:
    written = sealed_trail([3, 1, 4])
    assert ship() == 8
    assert targets(siem) == [record.target for record in sorted(written, key=lambda record: record.entry)]
    assert ship() == 0
    assert len(siem.requests) == 3
    write([event("job:later")])
    assert seal_now() == 1
    assert ship() == 1
    assert targets(siem)[8:] == ["job:later"]


def test_an_event_is_sent_when_it_is_sealed_and_not_before(siem: Receiver) -> None:
    write([event("job:new")])
    assert audit_seal(seconds=10) == 0
    assert ship() == 0
    assert seal_now() == 1
    assert ship() == 1


def test_messages_are_signed_as_standard_webhooks_says(siem: Receiver) -> None:
    sealed_trail([2])
    ship()
    (request,) = siem.requests
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(request.headers["webhook-timestamp"]) - clock.epoch()) < 60
    message = json.loads(request.body)
    assert message["type"] == "audit.events"
    assert message["data"]["stage"] == "test"
    assert json.loads(message["data"]["seal"]["statement"])["records"] == 2


def test_the_webhook_gets_ocsf_if_the_setting_says_so(siem: Receiver, settings: Any) -> None:
    settings.AUDIT_EXPORT_SCHEMA = "ocsf"
    sealed_trail([1])
    ship()
    (found,) = messages(siem)[0]["data"]["events"]
    assert found["class_uid"] == 6003


def test_a_large_seal_is_sent_in_parts(siem: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "PART_EVENTS", 3)
    written = sealed_trail([7])
    assert ship() == 7
    assert targets(siem) == [record.target for record in sorted(written, key=lambda record: record.entry)]
    assert [len(message["data"]["events"]) for message in messages(siem)] == [3, 3, 1]
    assert [message["data"]["seal"] is None for message in messages(siem)] == [True, True, False]
    assert len({request.headers["webhook-id"] for request in siem.requests}) == 3


@pytest.mark.parametrize("accepted", [1, 2, 3])
def test_after_a_crash_between_parts_the_last_one_is_sent_again_under_the_same_id(
    siem: Receiver, monkeypatch: pytest.MonkeyPatch, accepted: int
) -> None:
    monkeypatch.setattr(shipping, "PART_EVENTS", 2)
    sealed_trail([3, 1])
    advance = shipping._advance

    def killed(*arguments: Any) -> bool:
        if len(siem.requests) == accepted:
            raise SystemExit("killed")
        return advance(*arguments)

    with monkeypatch.context() as crashing:
        crashing.setattr(shipping, "_advance", killed)
        with pytest.raises(SystemExit):
            ship()
    assert ship() == 0, "the claim of the killed process still holds"
    ship(timedelta(minutes=2))
    ids = [request.headers["webhook-id"] for request in siem.requests]
    assert len(ids) == 4
    assert ids.index(ids[accepted]) == accepted - 1
    assert siem.requests[accepted].body == siem.requests[accepted - 1].body
    assert len(set(ids)) == 3


@pytest.mark.parametrize("how", ["hangs", "closes", "drips"])
def test_a_part_whose_answer_does_not_arrive_in_time_is_sent_again_under_the_same_id(
    siem: Receiver, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sealed_trail([2])
    is_over = threading.Event()

    def answer(_request: Any) -> tuple[int, dict[str, str]] | None:
        if how == "hangs":
            is_over.wait(10)
        return (204, {}) if how == "drips" else None

    siem.answer, siem.pause = answer, 0.05 if how == "drips" else 0
    with monkeypatch.context() as hurried:
        hurried.setattr(shipping, "_SEND_SECONDS", 0.5)
        assert ship() == 0
    is_over.set()
    assert "does not answer" in str(ExportState.get(ExportState.KIND, "webhook").problem)
    siem.answer, siem.pause = lambda _request: (204, {}), 0
    assert ship(timedelta(minutes=2)) == 2
    first, second = siem.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_no_event_is_missed_whichever_answer_of_the_database_is_lost(
    siem: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "PART_EVENTS", 2)
    written = sealed_trail([3])
    with fault(None) as counted:
        assert ship() == 3
    for call in range(len(counted.operations)):
        siem.requests.clear()
        ExportState(ExportState.KIND, "webhook").delete()
        with fault(Fault.LOST, call=call, lasting=True) as injected, suppress(Unavailable):
            ship()
        assert injected.hit
        ship(timedelta(minutes=2))
        parts = {request.headers["webhook-id"]: request.body for request in siem.requests}
        assert {(request.headers["webhook-id"], request.body) for request in siem.requests} == set(parts.items())
        assert set(targets(siem)) == {record.target for record in written}


@pytest.mark.parametrize(("minutes", "sent"), [(0, 0), (2, 2)])
def test_of_two_sweeps_at_once_one_sends_unless_the_other_is_slower_than_its_claim(
    siem: Receiver, minutes: int, sent: int
) -> None:
    sealed_trail([2])
    inner: list[int] = []

    def answer(_request: Any) -> tuple[int, dict[str, str]]:
        # While the first sweep waits for this answer, another one begins.
        if len(siem.requests) == 1:
            inner.append(ship(timedelta(minutes=minutes)))
        return 204, {}

    siem.answer = answer
    assert ship() == 2
    assert inner == [sent]
    assert len({(request.headers["webhook-id"], request.body) for request in siem.requests}) == 1
    assert ship(timedelta(minutes=5)) == 0


@pytest.mark.parametrize("status", [302, 500])
def test_a_target_that_refuses_is_asked_again_after_pauses_that_double(siem: Receiver, status: int) -> None:
    sealed_trail([2])
    siem.answer = lambda _request: (status, {"Location": "https://127.0.0.1/"})
    asked_at = []
    for minute in (0, 0.5, 1, 2, 3, 4, 6, 7, 10, 14):
        before = len(siem.requests)
        ship(timedelta(minutes=minute, seconds=1))
        if len(siem.requests) > before:
            asked_at.append(minute)
    assert asked_at == [0, 1, 3, 7]
    siem.answer = lambda _request: (204, {})
    assert ship(timedelta(minutes=30)) == 2
    state = ExportState.get(ExportState.KIND, "webhook")
    assert (state.failing_since, state.failures, state.problem, state.retry_at) == (None, None, None, None)


def test_a_target_that_fails_for_long_fails_the_sweep_which_rings_the_alarm(siem: Receiver) -> None:
    sealed_trail([1])
    siem.answer = lambda _request: (500, {})
    assert ship() == 0
    for after in (OVERDUE + timedelta(minutes=1), OVERDUE + timedelta(minutes=2)):
        with pytest.raises(Unavailable, match="webhook since 20"):
            ship(after)
    assert "answers with 500" in str(ExportState.get(ExportState.KIND, "webhook").problem)
    siem.answer = lambda _request: (204, {})
    assert ship(OVERDUE + timedelta(hours=1)) == 1
    assert ship(OVERDUE + timedelta(hours=1)) == 0


def test_a_private_address_is_refused_and_counts_as_a_failure(siem: Receiver, settings: Any) -> None:
    settings.OUTGOING_NETWORKS = []
    sealed_trail([1])
    assert ship() == 0
    assert siem.requests == []
    assert "not a public address" in str(ExportState.get(ExportState.KIND, "webhook").problem)


def test_a_minute_without_events_costs_two_reads_and_no_write(siem: Receiver) -> None:
    sealed_trail([1])
    ship()
    with dynamodb_calls() as counted:
        assert ship() == 0
    assert counted.operations == ["GetItem", "Query"]


def test_without_a_target_nothing_is_read(settings: Any) -> None:
    settings.AUDIT_EXPORT_BUCKET = settings.AUDIT_EXPORT_URL = ""
    with dynamodb_calls() as counted:
        assert ship() == 0
    assert counted.calls == 0


def test_sending_stops_in_time_and_goes_on_in_the_next_minute(siem: Receiver) -> None:
    sealed_trail([1, 1, 1])
    for _ in range(3):
        assert audit_ship(seconds=0) == 1
    assert audit_ship(seconds=0) == 0


def test_a_bucket_gets_files_that_together_verify_offline_also_after_a_crash(
    cloud_services: CloudServices, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUDIT_EXPORT_BUCKET = cloud_services.bucket
    sealed_trail([3, 2])
    with monkeypatch.context() as crashing:
        crashing.setattr(shipping, "_advance", lambda *_: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            ship()
    assert ship(timedelta(minutes=2)) == 5
    assert ship(timedelta(minutes=2)) == 0
    found = cloud_services.s3.list_objects_v2(Bucket=cloud_services.bucket, Prefix="audit/")["Contents"]
    names = [entry["Key"] for entry in found]
    assert len(names) == 2
    assert names == sorted(names)
    assert names[0].endswith("/0000000001-0000.jsonl.gz")
    bodies = [cloud_services.s3.get_object(Bucket=cloud_services.bucket, Key=name)["Body"].read() for name in names]
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b"".join(map(gzip.decompress, bodies)))
    result = export_verify(file, keys=trusted_keys())
    assert (result.findings, result.records) == ([], 5)


def test_a_bucket_that_is_not_there_is_a_failure_with_its_reason(cloud_services: CloudServices, settings: Any) -> None:
    settings.AUDIT_EXPORT_BUCKET = "no-such-bucket-of-ours"
    sealed_trail([1])
    assert ship() == 0
    assert "NoSuchBucket" in str(ExportState.get(ExportState.KIND, "bucket").problem)
