"""How long a check of a sealed trail takes, and how much memory: `make benchmark-audit`.

It makes an export of so many events (a million by default) in a temporary directory, sealed as a busy stage's is, and
checks it in a process of its own, as `manage.py audit_verify --export` does.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import django

django.setup()

from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: E402

from apps.audit.canonical import canonical_bytes, leaf_hash  # noqa: E402
from apps.audit.merkle import Edge, consistency_proof  # noqa: E402
from apps.audit.models import shard_key  # noqa: E402
from apps.audit.seals import NO_DIGEST, Leaves, Seal, Statement, key_digest, key_pem, keys_parse  # noqa: E402
from apps.audit.seals.copies import copy_write  # noqa: E402
from apps.audit.seals.exported import export_verify  # noqa: E402
from controlplane.lib import clock  # noqa: E402

_A_SEAL = 280
_BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


def events(first: int, count: int) -> Iterator[dict[str, str]]:
    """Events in the order of their entries, each as large as a usual one."""
    for number in range(first, first + count):
        moment = clock.timestamp(_BEGIN + timedelta(milliseconds=214 * number))
        shard, job = number % 8, f"job:01k{number:023}"
        yield {
            "day": shard_key(moment[:10], shard),
            "entry": shard_key(f"{moment}#01kevent{number:018}", shard),
            "actor_kind": "agent",
            "actor_id": f"01kagent{number % 500:018}",
            "actor_name": f"build-{number % 500}.example.com",
            "action": "job.finished",
            "target": job,
            "result": "ok",
            "detail": '{"attempt":1,"exit_code":0}',
            "address": "192.0.2.17",
            "request_id": "JKJaXmPLvHcESHA=",
            "about": job,
            "actor_key": f"agent:01kagent{number % 500:018}",
            "action_key": shard_key("job.finished", shard),
        }


def export_make(folder: Path, count: int) -> None:
    """Write the export and the public key."""
    key = ed25519.Ed25519PrivateKey.generate()
    (folder / "key.pem").write_text(key_pem(key.public_key()))
    before: Seal | None = None
    with (folder / "export.jsonl").open("wb") as file:
        for first in range(0, count, _A_SEAL):
            leaves = Leaves()
            for record in events(first, min(_A_SEAL, count - first)):
                file.write(canonical_bytes(record) + b"\n")
                leaves.entries.append(record["entry"])
                leaves.hashes.append(leaf_hash(record))
                leaves.expiries.append(0)
            edge = (before.edge if before else Edge()).grown(leaves.hashes)
            statement = Statement(
                number=before.number + 1 if before else 1,
                since=before.statement.through if before else clock.timestamp(_BEGIN),
                through=f"{leaves.entries[-1]}~",
                records=len(leaves.entries),
                late=0,
                size=edge.size,
                root=edge.root.hex(),
                index=leaves.index,
                previous=before.statement.digest if before else NO_DIGEST,
                settled=0,
                sealed_at=leaves.entries[-1][:27],
                key=key_digest(key.public_key()),
            )
            proof = tuple(consistency_proof(before.edge if before else Edge(), leaves.hashes))
            before = Seal(statement, key.sign(statement.signed), edge, proof)
            file.write(copy_write(before, leaves) + b"\n")


def check(folder: Path) -> None:
    """Check the export, and print what it took."""
    before = _peak_megabytes()
    began = time.perf_counter()
    result = export_verify(folder / "export.jsonl", keys=keys_parse((folder / "key.pem").read_text()))
    seconds = time.perf_counter() - began
    if result.findings or result.waiting:
        raise SystemExit(f"It should be right: {result.findings[:1]}")
    figures = {
        "events": result.records,
        "seals": result.head.number if result.head else 0,
        "seconds": round(seconds, 1),
        "events a second": round(result.records / seconds),
        "megabytes of memory": round(_peak_megabytes()),
        "of these before the check": round(before),
    }
    print(json.dumps(figures))


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(count: int) -> None:
    """Make an export and check it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        export_make(folder, count)
        size = (folder / "export.jsonl").stat().st_size / 1e6
        print(f"made {count:,} events in {time.perf_counter() - began:.0f} s, {size:,.0f} MB")
        subprocess.run([sys.executable, "-m", "benchmarks.sealed_trail", "--check", name], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
