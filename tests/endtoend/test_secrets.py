"""A secret goes from a person to the steps of a job, and stays nowhere else: canaries are searched for everywhere."""

import base64
import gzip
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.jobs.services import logs_archive
from apps.secrets.selectors import secret_get
from tests.clients import Client
from tests.emulator import items_read
from tests.endtoend.conftest import Product, Repository
from tests.live_files import files_below

CANARY = "canary-Zx81/+é'\"$"
CONFIG = "apiVersion: v1\nuser: canary-second-value-77\n"
# What they have in common, in the forms that a careless program would store.
TRACES = [b"canary-Zx81", b"canary-second", base64.b64encode(b"canary-Zx81/")[:14], b"canary-Zx81/".hex().encode()]
FILE = """
jobs:
  build:
    secrets: [A_TOKEN, {name: KUBECONFIG, file: true}]
    steps:
      - run: |
          printf %s "$A_TOKEN" > "$OUT.token"; cat "$KUBECONFIG" > "$OUT.config"
          echo "plain $A_TOKEN"; printf %s "$A_TOKEN" | base64; printf %s "$A_TOKEN" | od -An -tx1 | tr -d ' \\n'; echo
          cat "$KUBECONFIG"
      - run: echo "again $A_TOKEN"; exit 3
"""


def stored(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The names and the contents of all files below the folder, unpacked where they are packed."""
    for path, data in files_below(folder):
        yield str(path), data
        if data.startswith(b"\x1f\x8b"):
            yield f"{path} unpacked", gzip.decompress(data)


def traces_in(text: bytes) -> list[bytes]:
    return [trace for trace in TRACES if trace in text]


def pages(client: Client, run_id: str, job_id: str, secret_id: str) -> Iterator[tuple[str, bytes]]:
    for path in (
        f"/runs/{run_id}",
        f"/jobs/{job_id}",
        f"/jobs/{job_id}/log",
        "/secrets",
        *(f"/secrets/{secret_id}{part}" for part in ("", "/versions", "/deliveries")),
        "/metrics",
    ):
        answer = client.get(path)
        assert answer.status_code == 200, path
        yield path, answer.content


def test_a_secret_reaches_its_steps_and_is_found_nowhere_else(
    product: Product, repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture, emulator: str
) -> None:
    caplog.set_level(logging.DEBUG)
    repository.commit(**{"__hybrid-ci__yml": FILE})
    product.pipeline(repository.url)
    for name, value in (("A_TOKEN", CANARY), ("KUBECONFIG", CONFIG)):
        answer = product.client.post("/secrets", json={"name": name, "value": value, "scope": {"pipeline": "self"}})
        assert answer.status_code == 201, answer.text
        assert not traces_in(answer.content)
    out = tmp_path / "outside" / "out"
    out.parent.mkdir()
    agent = product.start_agent("one")
    first = product.job(product.queue(env={"OUT": str(out)}))
    product.until_ended(first["job_id"])
    run = product.client.get(f"/runs/{first['run_id']}").json()
    job_id = next(job["job_id"] for job in run["jobs"] if job["name"] == "build")
    job = product.until_ended(job_id)
    assert job["exit_code"] == 3, product.log(job_id)
    assert Path(f"{out}.token").read_text() == CANARY
    assert Path(f"{out}.config").read_text() == CONFIG
    log = product.log(job_id).decode()
    assert "plain ***\n***\n***\n" in log
    assert "again ***" in log

    secret_id = next(one["secret_id"] for one in product.client.get("/secrets").json()["secrets"])
    (seen,) = product.client.get(f"/secrets/{secret_id}/deliveries").json()["deliveries"]
    assert (seen["job_id"], seen["attempt"], seen["agent"]) == (job_id, 1, "one")
    assert secret_get(secret_id).delivered_at

    logs_archive()
    searched: dict[str, bytes] = {"database": items_read(emulator), "server's log": caplog.text.encode()}
    searched |= dict(pages(product.admin, first["run_id"], job_id, secret_id))
    searched |= {"audit": product.admin.get("/audit").content, "agent's log": agent.log.read_bytes()}
    searched |= dict(stored(agent.state_dir)) | dict(stored(Path(settings.LOG_DIR)))
    # The chunks of logs in the database are packed.
    for number, text in enumerate(_binaries(json.loads(searched["database"]))):
        searched[f"database, binary {number}"] = gzip.decompress(text) if text.startswith(b"\x1f\x8b") else text
    assert {place: traces_in(text) for place, text in searched.items() if traces_in(text)} == {}
    assert len(searched) > 20
    assert any(b"plain ***" in text for text in searched.values()), "the search reads logs"


def _binaries(value: Any) -> Iterator[bytes]:
    """All binary values of DynamoDB's JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "B" and isinstance(inner, str) and re.fullmatch(r"[A-Za-z0-9+/=]*", inner):
                yield base64.b64decode(inner)
            else:
                yield from _binaries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _binaries(inner)
