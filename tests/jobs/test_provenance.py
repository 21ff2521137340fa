"""The provenance of artifacts: a signed in-toto statement with the contents of SLSA's level 2; a script checks it."""

import base64
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from django.conf import settings as django_settings
from django.core.files.storage import storages

from apps.jobs.models import Job, Run
from controlplane.lib.dsse import MOST_BYTES, envelope, pre_authentication
from controlplane.lib.signing_keys import Purpose, signing_key, signing_keys, verify
from tests.clients import Client, problem
from tests.jobs.archives import Transfers, sha256
from tests.metering import dynamodb_calls
from tests.signing import AgentClient

DATA = b"what the job has made" * 50
SCRIPT = Path(django_settings.BASE_DIR) / "docs" / "provenance_check.py"


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, settings: Any) -> None:
    """Artifacts and keys are in empty directories."""
    backend = {"BACKEND": "controlplane.lib.presigned_files.PresignedFiles", "OPTIONS": {"location": tmp_path / "a"}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": backend}
    settings.KEY_FILE = tmp_path / "keys" / "sealing.key"
    assert storages["artifacts"]


@pytest.fixture
def transfers(agent: AgentClient, make_job: Callable[..., str]) -> Transfers:
    """A running job, as its agent sees it."""
    make_job(git_ref="main", env={"TOKEN_FOR_X": "s3cr3t-value"})
    return Transfers(agent, agent.take())


def provenance(client: Client, artifact_id: str) -> dict[str, Any]:
    answer = client.get(f"/artifacts/{artifact_id}/provenance")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def statement(found: dict[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(base64.b64decode(found["payload"]))
    return payload


def keys_file(folder: Path, purpose: Purpose = Purpose.AUDIT) -> Path:
    """The public keys, as `audit_public_key` prints them."""
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    file = folder / "keys.pem"
    file.write_bytes(b"".join(key.public_key.public_bytes(*form) for key in signing_keys(purpose)))
    return file


def check(folder: Path, data: bytes, found: Any, *wanted: str, keys: Path | None = None) -> str:
    """What the stand-alone script says, or the message with which it ends."""
    (folder / "artifact").write_bytes(data)
    (folder / "provenance.json").write_text(json.dumps(found))
    script = runpy.run_path(str(SCRIPT))
    try:
        script["main"](
            str(folder / "artifact"), str(folder / "provenance.json"), str(keys or keys_file(folder)), *wanted
        )
    except SystemExit as end:
        return str(end.code)
    return "good"


def test_an_artifact_has_a_signed_provenance_with_the_contents_of_slsa_level_2(
    transfers: Transfers, viewer: Client
) -> None:
    artifact_id = transfers.artifact(DATA)
    assert transfers.agent.finish(transfers.assignment).status_code == 200
    (listed,) = viewer.get(f"/jobs/{transfers.assignment['job_id']}/artifacts").json()["artifacts"]
    assert listed["provenance_url"] == f"{viewer.server}/artifacts/{artifact_id}/provenance"
    found = provenance(viewer, artifact_id)
    assert found["payloadType"] == "application/vnd.in-toto+json"
    said = statement(found)
    assert (said["_type"], said["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert [subject["digest"] for subject in said["subject"]] == [{"sha256": sha256(DATA)}]
    build, run = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    job = Job.get(transfers.assignment["job_id"])
    parameters = build["externalParameters"]
    assert build["buildType"] == "urn:hybrid-ci:build:job:v1"
    assert (parameters["repository"], parameters["ref"], parameters["pipeline"]) == (
        job.repository,
        "main",
        job.pipeline,
    )
    assert parameters["variables"] == ["TOKEN_FOR_X"]
    assert build["resolvedDependencies"] == [{"uri": f"git+{job.repository}@main", "digest": {"gitCommit": "c" * 40}}]
    assert run["builder"]["id"] == f"{viewer.server}/"
    assert run["metadata"]["invocationId"].endswith(f"runs/{job.run_id}#{job.job_id}")
    assert (run["metadata"]["startedOn"], run["metadata"]["finishedOn"]) == (job.started_at, job.completed_at)
    assert "s3cr3t-value" not in json.dumps(said)


def test_the_same_artifact_has_the_same_provenance_in_three_reads(transfers: Transfers, viewer: Client) -> None:
    artifact_id = transfers.artifact(DATA)
    transfers.agent.finish(transfers.assignment)
    first = provenance(viewer, artifact_id)
    with dynamodb_calls() as counted:
        assert provenance(viewer, artifact_id) == first
    assert counted.operations.count("GetItem") == 3


def test_before_the_job_has_ended_there_is_none(transfers: Transfers, viewer: Client) -> None:
    artifact_id = transfers.artifact(DATA)
    problem(viewer.get(f"/artifacts/{artifact_id}/provenance"), 409, "job_not_finished")


def test_an_artifact_of_a_lost_attempt_has_none(transfers: Transfers, viewer: Client) -> None:
    artifact_id = transfers.artifact(DATA)
    transfers.agent.finish(transfers.assignment)
    Job(transfers.assignment["job_id"]).update(actions=[Job.attempt.set(2)])
    problem(viewer.get(f"/artifacts/{artifact_id}/provenance"), 409, "stale_attempt")


def test_however_much_a_request_gave_the_statement_is_small_enough_to_be_signed(
    transfers: Transfers, viewer: Client
) -> None:
    artifact_id = transfers.artifact(DATA)
    transfers.agent.finish(transfers.assignment)
    job = Job.get(transfers.assignment["job_id"])
    long = "x" * 5_000
    job.update(
        actions=[
            Job.git_ref.set(long),
            Job.repository.set(long),
            Job.env.set({f"N{number}": "x" for number in range(200)}),
            Job.labels.set([f"{number}-{long}" for number in range(30)]),
        ]
    )
    Run(job.run_id).update(actions=[Run.parameters.set({"p": long})])
    said = statement(provenance(viewer, artifact_id))
    assert said["predicate"]["buildDefinition"]["externalParameters"]["parameters"].keys() == {"sha256"}


def test_the_script_accepts_the_artifact_and_what_it_must_be(
    transfers: Transfers, viewer: Client, tmp_path: Path
) -> None:
    artifact_id = transfers.artifact(DATA)
    transfers.agent.finish(transfers.assignment)
    found = provenance(viewer, artifact_id)
    wanted = [f"builder={viewer.server}/", "ref=main", f"commit={'c' * 40}"]
    assert check(tmp_path, DATA, found, *wanted) == "good"
    assert "ref is 'main', not 'release'" in check(tmp_path, DATA, found, "ref=release")
    assert "of another file" in check(tmp_path, DATA + b"!", found)
    files = [tmp_path / name for name in ("artifact", "provenance.json", "keys.pem")]
    (tmp_path / "artifact").write_bytes(DATA)
    alone = subprocess.run([sys.executable, SCRIPT, *files], capture_output=True, text=True, timeout=30, check=True)
    assert f"built by {viewer.server}/ from " in alone.stdout


def test_the_script_refuses_what_was_edited_or_signed_by_another_key(
    transfers: Transfers, viewer: Client, tmp_path: Path
) -> None:
    artifact_id = transfers.artifact(DATA)
    transfers.agent.finish(transfers.assignment)
    found = provenance(viewer, artifact_id)
    said = statement(found)
    said["subject"][0]["digest"]["sha256"] = sha256(b"evil")
    edited = {**found, "payload": base64.b64encode(json.dumps(said).encode()).decode()}
    assert "not signed by one of these keys" in check(tmp_path, b"evil", edited)
    assert "not signed by one of these keys" in check(tmp_path, DATA, {**found, "payloadType": "text/plain"})
    other = keys_file(tmp_path / "keys", Purpose.IDENTITY)
    assert "not signed by one of these keys" in check(tmp_path, DATA, found, keys=other)


def test_the_script_accepts_the_rsa_signatures_of_kms(tmp_path: Path) -> None:
    said = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "x", "digest": {"sha256": sha256(DATA)}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {"externalParameters": {"repository": "r", "ref": "main"}, "resolvedDependencies": []},
            "runDetails": {"builder": {"id": "b"}},
        },
    }
    # Those of identity tokens are RSA keys, as all keys are in KMS.
    found = envelope(
        json.dumps(said).encode(), payload_type="application/vnd.in-toto+json", key=signing_key(Purpose.IDENTITY)
    )
    assert check(tmp_path, DATA, found, keys=keys_file(tmp_path, Purpose.IDENTITY)) == "good"


def test_the_signed_bytes_are_those_of_dsse() -> None:
    """The example of the specification."""
    assert pre_authentication(b"hello world", "http://example.com/HelloWorld") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_an_envelope_is_no_signature_of_anything_else() -> None:
    key = signing_key(Purpose.AUDIT)
    found = envelope(b"{}", payload_type="x", key=key)
    signature = base64.b64decode(found["signatures"][0]["sig"])
    verify(key.public_key, signature, pre_authentication(b"{}", "x"))
    assert not pre_authentication(b"{}", "x").startswith(b"hybrid-ci")
    with pytest.raises(ValueError, match="at most"):
        envelope(b"x" * MOST_BYTES, payload_type="x", key=key)


def test_the_script_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 60
