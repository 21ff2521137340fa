"""Secrets and their rotations: set from standard input, never shown."""

from tests.cli.conftest import Scripted, answer, hci
from tests.clients import Client

VALUE = "a value of eight characters\nand a line"


def test_a_value_comes_from_standard_input_and_is_never_printed(user: Client) -> None:
    made = hci("secrets", "set", "TOKEN", "--pipeline", "web", "--branch", "main", "--json", stdin=f"{VALUE}\n")
    assert (made.code, made.json["version"]) == (0, 1)
    assert VALUE not in made.out + made.err
    before = made.json["fingerprint"]
    # The same scope is the same secret; the value has no line end that an editor or echo added.
    again = hci("secrets", "set", "TOKEN", "--branch", "main", "--pipeline", "web", "--json", stdin=VALUE).json
    assert (again["secret_id"], again["version"], again["fingerprint"]) == (made.json["secret_id"], 1, before)
    everywhere = hci("secrets", "set", "TOKEN", "-q", stdin="another value").out.strip()
    assert everywhere == "TOKEN"
    assert sorted(hci("secrets", "list", "-q").out.split()) == sorted([everywhere, again["secret_id"]])
    by_id = hci("secrets", "set", again["secret_id"], "--json", stdin="a third value").json
    assert by_id["version"] == 2
    shown = hci("secrets", "show", again["secret_id"])
    assert "pipeline web; branches main" in shown.out
    assert [one["version"] for one in hci("secrets", "show", "TOKEN", "--json").json["versions"]] == [1]
    assert "TOKEN" in hci("secrets", "list").out


def test_a_value_is_no_argument_and_must_be_text(user: Client) -> None:
    assert hci("secrets", "set", "TOKEN", "the-value").code == 2
    assert hci("secrets", "set", "TOKEN", stdin=b"").code == 2
    assert hci("secrets", "set", "TOKEN", stdin=b"\xff" * 20).code == 2
    short = hci("secrets", "set", "TOKEN", stdin=b"short")
    assert (short.code, "value" in short.err, "short" in short.err) == (2, True, False)


def test_a_secret_is_deleted_only_by_those_who_are_sure(user: Client) -> None:
    hci("secrets", "set", "TOKEN", stdin=VALUE)
    assert hci("secrets", "delete", "TOKEN").code == 2
    assert hci("secrets", "delete", "TOKEN", "--yes").code == 0
    assert hci("secrets", "show", "TOKEN").code == 3


def test_a_secret_without_a_rotator_is_not_rotated(user: Client) -> None:
    hci("secrets", "set", "TOKEN", stdin=VALUE)
    assert hci("secrets", "rotate", "TOKEN").code in (3, 4)
    assert hci("rotations", "list", "TOKEN", "--json").json["rotations"] == []
    assert hci("rotations", "show", "TOKEN:1").code == 3


def test_a_rotation_is_shown_with_its_steps_hastened_and_stopped(scripted: Scripted) -> None:
    step = {"act": "set", "system": "db", "begun_at": "x", "done_at": None, "failed_at": None, "message": "no\x1b[2J"}
    scripted.answers = [answer({"rotation_id": "TOKEN:1", "secret_id": "TOKEN", "state": "running", "steps": [step]})]
    assert "db      begun  no" in hci("rotations", "show", "TOKEN:1").out
    for act in ("hasten", "stop"):
        assert hci("rotations", act, "TOKEN:1", "-q").out == "TOKEN:1\n"
        assert scripted.asked[-1].startswith(f"POST /rotations/TOKEN%3A1/{act} ".encode())
    assert hci("secrets", "rotate", "TOKEN", "-q").out == "TOKEN:1\n"
