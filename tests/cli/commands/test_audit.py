"""The audit trail: searched, and exported to a file that an interruption does not damage."""

import json
import stat
from pathlib import Path

import pytest

from controlplane.lib import clock
from tests.cli.conftest import Scripted, answer, hci
from tests.clients import Client


def test_events_are_searched_and_exported(boss: Client, pipeline: str, tmp_path: Path) -> None:
    events = hci("audit", "search", "--target", "pipeline:self", "--json").json["events"]
    assert [event["action"] for event in events] == ["pipeline.saved"]
    assert "pipeline.saved" in hci("audit", "search", "--action", "pipeline.saved").out
    file = tmp_path / "audit.jsonl"
    # An export ends two minutes ago.
    assert hci("audit", "export", "--output", str(file), "--from", f"{clock.now():%Y-%m-%d}").code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert hci("audit", "export", "--output", str(file)).code == 2
    assert hci("audit", "export", "--resume").code == 2


def page(content: bytes, cursor: str | None) -> bytes:
    link = {"Link": f'<https://elsewhere.example/audit/export?cursor={cursor}&x=1>; rel="next"'} if cursor else {}
    return answer(content, **link)


def test_an_export_goes_on_behind_its_last_whole_page(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hci.client.PATIENCE", 0.0)
    file = tmp_path / "audit.jsonl"
    command = ("audit", "export", "--output", str(file), "--actor", "system")
    scripted.answers = [page(b"one\n", "a"), page(b"two\n", "b"), b""]
    assert hci(*command).code == 5
    assert file.read_bytes() == b"one\ntwo\n"
    # The machine stopped in the middle of a page.
    with file.open("ab") as opened:
        opened.write(b"thr")
    assert hci(*command).code == 2
    assert hci("audit", "export", "--output", str(file), "--resume").code == 2
    scripted.answers = [page(b"three\n", None)]
    assert hci(*command, "--resume").code == 0
    assert b"cursor=b" in scripted.asked[-1].splitlines()[0]
    assert file.read_bytes() == b"one\ntwo\nthree\n"
    assert sorted(path.name for path in tmp_path.glob("audit*")) == ["audit.jsonl"]
    assert hci(*command, "--resume").code == 2


def test_an_export_to_standard_output_is_the_bytes_as_they_come(scripted: Scripted) -> None:
    scripted.answers = [page(b'{"a":1}\n', "x"), page(b'{"b":"\\u2028"}\n', None)]
    ended = hci("audit", "export")
    assert ended.out == '{"a":1}\n{"b":"\\u2028"}\n'
    assert json.loads(ended.out.splitlines()[0]) == {"a": 1}
    scripted.answers = [page('{"a":"\x9b2J"}\n'.encode(), None)]
    assert hci("audit", "export").out == '{"a":"\x9b2J"}\n'
    assert hci("audit", "export", terminal=True).out == '{"a":"2J"}\n'


def test_an_export_that_does_not_get_further_ends(scripted: Scripted) -> None:
    scripted.answers = [page(b"", "a")]
    assert hci("audit", "export").code == 5
