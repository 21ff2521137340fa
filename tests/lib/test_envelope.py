"""Encryption: what opens, what does not, and the key file."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.lib.envelope import DecryptionFailed, decrypt, encrypt

CONTEXT = ("agent-key", "agent", "key")


@pytest.fixture
def key_file(settings: Any, tmp_path: Path) -> Path:
    settings.KEY_FILE = tmp_path / "state" / "sealing.key"
    return Path(settings.KEY_FILE)


@given(st.binary(max_size=100), st.lists(st.text(), max_size=4))
def test_a_encrypted_secret_opens_in_its_context(secret: bytes, context: list[str]) -> None:
    assert decrypt(encrypt(secret, context=context), context=context) == secret


@pytest.mark.parametrize(
    "elsewhere", [("agent-key", "agent", "other"), ("agent-key", "agent"), ("agent-key", "agentkey"), ()]
)
def test_a_encrypted_secret_does_not_open_in_another_place(elsewhere: tuple[str, ...]) -> None:
    with pytest.raises(DecryptionFailed):
        decrypt(encrypt(b"secret", context=CONTEXT), context=elsewhere)


@given(st.data())
def test_a_changed_text_does_not_open(data: st.DataObject) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    place = data.draw(st.integers(0, len(text) - 2))
    # The text is random, so what is drawn must not depend on it.
    others = [character for character in "AZaz09-_.é" if character != text[place]]
    other = others[data.draw(st.integers(0, 8))]
    with pytest.raises(DecryptionFailed):
        decrypt(text[:place] + other + text[place + 1 :], context=CONTEXT)


@given(st.text())
def test_any_other_text_does_not_open(text: str) -> None:
    with pytest.raises(DecryptionFailed):
        decrypt(text, context=CONTEXT)


def test_encrypting_twice_gives_different_texts_without_the_secret() -> None:
    first, second = (encrypt(b"open sesame", context=CONTEXT) for _ in range(2))
    assert first != second
    assert "sesame" not in first


def test_a_text_encrypted_by_another_machine_names_the_key_that_is_missing(settings: Any, tmp_path: Path) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    settings.KEY_FILE = tmp_path / "another.key"
    with pytest.raises(DecryptionFailed, match=text.split(".")[1]):
        decrypt(text, context=CONTEXT)


def test_the_key_is_made_at_first_use_for_the_owner_alone(key_file: Path) -> None:
    encrypt(b"secret", context=CONTEXT)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert len(key_file.read_bytes()) == 32
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_key_that_others_can_read_is_refused(key_file: Path) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(b"k" * 32)
    key_file.chmod(0o644)
    with pytest.raises(RuntimeError, match="chmod 600"):
        encrypt(b"secret", context=CONTEXT)


def test_a_damaged_key_is_refused_and_left_as_it_is(key_file: Path) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(b"short")
    key_file.chmod(0o600)
    with pytest.raises(RuntimeError, match="32 bytes"):
        encrypt(b"secret", context=CONTEXT)
    assert key_file.read_bytes() == b"short"


_RACER = """
import sys
from pathlib import Path
from typing import Any
from django.conf import settings
settings.configure(KEY_FILE=Path(sys.argv[1]), KMS_KEY_ID="")
from controlplane.lib.envelope import encrypt
sys.stdin.read()
print(encrypt(b"secret", context=["race"]))
"""


def test_processes_that_start_at_once_agree_on_one_key(key_file: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(key_file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
        racer.stdin = None
    texts = [racer.communicate(timeout=30)[0].strip() for racer in racers]
    assert [decrypt(text, context=["race"]) for text in texts] == [b"secret"] * 6
