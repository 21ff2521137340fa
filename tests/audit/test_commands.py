"""The commands of the sealed trail, and the script that needs nothing else."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_search
from controlplane.lib import clock
from tests.audit.sealed import SOON, copies_clear, sealed_trail
from tests.audit.test_verification import export_of, put, stored
from tests.audit.trail import event, write

pytestmark = pytest.mark.usefixtures("tables", "later")

SCRIPT = Path(settings.BASE_DIR) / "docs" / "audit_check.py"


@pytest.fixture
def later() -> None:
    copies_clear()


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """What a command ends with, and what it prints."""
    code = 0
    capsys.readouterr()
    with clock.shifted(SOON):
        try:
            call_command(*arguments)
        except CommandError as error:
            return error.returncode, str(error)
        except SystemExit as end:
            code = int(str(end.code))
    return code, capsys.readouterr().out


def test_audit_verify_says_what_it_found_and_how_fast_and_records_it(capsys: pytest.CaptureFixture[str]) -> None:
    written = sealed_trail((3, 2))
    code, output = typed(capsys, "audit_verify", "--from", written[0].at[:10])
    assert code == 0
    assert output.startswith("5 events were checked, ")
    assert " a second.\nChecked up to 2" in output
    assert output.endswith("All is as it was sealed.\n")
    put(AuditRecord, {**stored(written[1]), "result": {"S": "refused"}})
    code, output = typed(capsys, "audit_verify", "--from", written[0].at, "--to", "2099-01-01T01:00:00+01:00")
    assert code == 1
    assert output.startswith(f"edited: {written[1].entry} was edited. (seal 1)\n")
    first, second = audit_search(target="audit:seals").records
    assert (first.action, first.result, first.detail["first_finding"]) == (
        "audit.verified",
        "changed",
        f"{written[1].entry} was edited.",
    )
    assert (second.result, second.detail["records"]) == ("ok", 5)


def test_an_export_is_verified_with_the_key_that_audit_public_key_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sealed_trail((3, 2))
    export, key = tmp_path / "export.jsonl", tmp_path / "key.pem"
    key.write_text(typed(capsys, "audit_public_key")[1])
    lines = export_of()[2:]
    seals = typed(capsys, "audit_seals")[1].splitlines()
    export.write_text("\n".join(seals + lines))
    arguments = ("audit_verify", "--export", str(export), "--public-key", str(key))
    assert typed(capsys, *arguments)[0] == 0
    assert typed(capsys, *arguments, "--to", "2099-01-01")[0] == 1
    export.write_text("\n".join([*seals[:1], *lines]))
    assert typed(capsys, *arguments)[0] == 3
    export.write_text("\n".join([*seals, *lines[1:]]))
    assert typed(capsys, *arguments)[0] == 1
    export.write_text("\n".join([*seals, "no event"]))
    assert typed(capsys, *arguments) == (2, "Could not check: Line 3 is neither an event nor a seal.")
    export.write_text("\n".join(lines))
    assert "has no seal" in typed(capsys, *arguments)[1]
    assert typed(capsys, *arguments[:3])[0] == 2
    assert typed(capsys, *arguments[:4], str(export))[0] == 2


def checked_by_the_script(folder: Path, proof: object) -> subprocess.CompletedProcess[str]:
    (folder / "proof.json").write_text(json.dumps(proof))
    return subprocess.run(
        [sys.executable, str(SCRIPT), "proof.json", "key.pem"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_proof_is_checked_by_a_script_of_60_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 60
    written = sealed_trail((3, 4))
    (tmp_path / "key.pem").write_text(typed(capsys, "audit_public_key")[1])
    proof = json.loads(typed(capsys, "audit_prove", written[4].entry)[1])
    done = checked_by_the_script(tmp_path, proof)
    assert (done.returncode, done.stdout) == (0, f"RIGHT: {written[4].entry} is event 5 of 7 in seal 2.\n"), done.stderr
    edited = {**proof, "record": {**proof["record"], "result": "refused"}}
    done = checked_by_the_script(tmp_path, edited)
    assert (done.returncode, done.stderr) == (1, "WRONG: the seal does not have this event.\n")
    # In this process, since a start of Python takes longer than all of them.
    check, pem = runpy.run_path(str(SCRIPT))["main"], (tmp_path / "key.pem").read_text()
    for wrong in (edited, {**proof, "leaf": 5}, {**proof, "leaf": -3}, {**proof, "proof": proof["proof"][1:]}):
        with pytest.raises(SystemExit, match=r"WRONG: the seal does not have this event\."):
            check(wrong, pem)
    statement = proof["seal"]["statement"].replace('"number":2', '"number":3')
    with pytest.raises(SystemExit, match=r"WRONG: the seal was changed\."):
        check({**proof, "seal": {**proof["seal"], "statement": statement}}, pem)
    with pytest.raises(SystemExit, match=r"WRONG: no key of the file has signed this seal\."):
        check(proof, "")


def test_an_event_that_is_not_sealed_or_not_there_has_no_proof(capsys: pytest.CaptureFixture[str]) -> None:
    sealed_trail((1,))
    (fresh,) = write([event()])
    assert "not sealed yet" in typed(capsys, "audit_prove", fresh.entry)[1]
    assert "no such audit event" in typed(capsys, "audit_prove", "2026-11-21T09:00:00.000000Z#nothing")[1]
    assert "no such audit event" in typed(capsys, "audit_prove", "nothing")[1]
