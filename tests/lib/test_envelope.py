"""Encryption: what opens, what does not, and the key file."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from controlplane.lib import data_keys, envelope
from controlplane.lib.envelope import DecryptionFailed, decrypt, encrypt, is_current, key_replace, keys_kept

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


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o660, 0o666])
def test_a_key_that_others_may_use_is_refused(key_file: Path, mode: int) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(b"k" * 32)
    key_file.chmod(mode)
    with pytest.raises(RuntimeError, match=f"chmod 600 {key_file}"):
        encrypt(b"secret", context=CONTEXT)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_that_its_owner_alone_may_use_is_used(key_file: Path, mode: int) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(b"k" * 32)
    key_file.chmod(mode)
    assert decrypt(encrypt(b"secret", context=CONTEXT), context=CONTEXT) == b"secret"
    assert key_file.read_bytes() == b"k" * 32


def test_a_damaged_key_is_refused_and_left_as_it_is(key_file: Path) -> None:
    key_file.parent.mkdir()
    for damaged in (b"short", b"k" * 31, b"k" * 33, b""):
        key_file.write_bytes(damaged)
        key_file.chmod(0o600)
        with pytest.raises(RuntimeError, match="32 bytes"):
            encrypt(b"secret", context=CONTEXT)
        assert key_file.read_bytes() == damaged


def test_a_key_that_disappears_while_it_is_made_is_reported(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_sync_directory", lambda _folder: key_file.unlink())
    with pytest.raises(RuntimeError, match="was deleted while it was created"):
        encrypt(b"secret", context=CONTEXT)
    assert list(key_file.parent.iterdir()) == []


def test_a_key_that_another_process_makes_first_is_used(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = envelope._key_read

    def overtaken(path: Path) -> bytes | None:
        monkeypatch.setattr(envelope, "_key_read", read)
        found = read(path)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"o" * 32)
        path.chmod(0o600)
        return found

    monkeypatch.setattr(envelope, "_key_read", overtaken)
    encrypt(b"secret", context=CONTEXT)
    assert key_file.read_bytes() == b"o" * 32
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_text_has_its_kind_its_keys_id_a_nonce_and_no_padding(key_file: Path) -> None:
    kind, key_id, nonce, ciphertext = encrypt(b"secret", context=CONTEXT).split(".")
    assert (kind, key_id[:6], len(key_id)) == ("1", "local-", 18)
    # 12 bytes, and 6 with a tag of 16.
    assert (len(nonce), len(ciphertext)) == (16, 30)


@pytest.mark.parametrize("kind", ["0", "2", "3", "", "11"])
def test_a_text_of_an_unknown_kind_does_not_open(key_file: Path, kind: str) -> None:
    rest = encrypt(b"secret", context=CONTEXT).partition(".")[2]
    for text in (f"{kind}.{rest}", f"1.extra.{rest}", f"1.{rest}.extra"):
        with pytest.raises(DecryptionFailed, match=r"kind of the encrypted text is unknown|damaged"):
            decrypt(text, context=CONTEXT)


def test_the_kind_and_the_keys_id_are_bound_to_the_text(key_file: Path) -> None:
    associated = envelope._associated(["1", "local-x"], CONTEXT)
    for head, context in ((["2", "local-x"], CONTEXT), (["1", "local-y"], CONTEXT), (["1"], ("local-x", *CONTEXT[1:]))):
        assert envelope._associated(head, context) != associated


def test_a_new_key_is_on_the_disk_before_it_is_used(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, int]] = []
    closed: list[int] = []
    sync, close = os.fsync, os.close

    def synced_note(handle: int) -> None:
        found = os.fstat(handle)
        synced.append((stat.S_ISDIR(found.st_mode), found.st_size if stat.S_ISREG(found.st_mode) else handle))
        sync(handle)

    def close_note(handle: int) -> None:
        closed.append(handle)
        close(handle)

    monkeypatch.setattr(os, "fsync", synced_note)
    monkeypatch.setattr(os, "close", close_note)
    encrypt(b"secret", context=CONTEXT)
    (first, (is_directory, directory)) = synced
    assert first == (False, 32)
    assert is_directory
    assert directory in closed


# --- under a data key of KMS (the real one is in test_data_keys.py) ---------------------------------------------------


@pytest.fixture
def data_key(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """KMS has one data key; the ids and encrypted keys that it was asked to open."""
    key = data_keys.DataKey("1234-abcd", b"encrypted", AESGCM(b"d" * 32))
    opened: list[tuple[str, bytes]] = []

    def data_key_open(key_id: str, encrypted: bytes) -> data_keys.DataKey:
        opened.append((key_id, encrypted))
        if (key_id, encrypted) != (key.kms_key_id, key.encrypted):
            raise data_keys.UnknownDataKey
        return key

    settings.KMS_KEY_ID = "alias/product"
    monkeypatch.setattr(data_keys, "data_key_for_encryption", lambda: key)
    monkeypatch.setattr(data_keys, "data_key_open", data_key_open)
    return opened


def test_a_text_carries_its_data_key(key_file: Path, data_key: list[tuple[str, bytes]]) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    kind, key_id, encrypted, _nonce, _ciphertext = text.split(".")
    assert (kind, key_id, encrypted) == ("2", "1234-abcd", "ZW5jcnlwdGVk")
    assert decrypt(text, context=CONTEXT) == b"secret"
    assert data_key == [("1234-abcd", b"encrypted")]
    assert not key_file.exists()


@pytest.mark.parametrize("key_id", ["", "a/b", "arn:aws", "x" * 65, "ü", "a b", "a_b"])
def test_a_text_that_names_no_key_of_kms_does_not_open_and_asks_nothing(
    data_key: list[tuple[str, bytes]], key_id: str
) -> None:
    text = encrypt(b"secret", context=CONTEXT).replace("1234-abcd", key_id)
    with pytest.raises(DecryptionFailed, match="names no valid key of KMS"):
        decrypt(text, context=CONTEXT)
    assert data_key == []


def test_a_data_key_that_kms_does_not_know_does_not_open(data_key: list[tuple[str, bytes]]) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    with pytest.raises(DecryptionFailed, match="KMS did not encrypt the data key"):
        decrypt(text.replace("1234-abcd", "x" * 64), context=CONTEXT)
    assert data_key == [("x" * 64, b"encrypted")]


@pytest.mark.parametrize("parts", [["2", "1234-abcd"], ["1", "1234-abcd", "ZW5jcnlwdGVk"], ["3", "1234-abcd", "x"]])
def test_a_kind_has_its_number_of_parts(data_key: list[tuple[str, bytes]], parts: list[str]) -> None:
    rest = encrypt(b"secret", context=CONTEXT).split(".")[-2:]
    with pytest.raises(DecryptionFailed, match="kind of the encrypted text is unknown"):
        decrypt(".".join([*parts, *rest]), context=CONTEXT)


def test_under_kms_a_key_file_opens_what_it_encrypted_and_is_never_made(
    key_file: Path, settings: Any, request: pytest.FixtureRequest
) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    request.getfixturevalue("data_key")
    assert decrypt(text, context=CONTEXT) == b"secret"
    settings.KEY_FILE = key_file.with_name("another.key")
    with pytest.raises(DecryptionFailed, match="does not exist"):
        decrypt(text, context=CONTEXT)
    assert not Path(settings.KEY_FILE).exists()


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


@pytest.mark.slow
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


def test_a_new_key_encrypts_at_once_and_the_one_before_still_decrypts(key_file: Path) -> None:
    text = encrypt(b"secret", context=CONTEXT)
    assert is_current(text)
    new_id = key_replace()
    assert not is_current(text)
    assert decrypt(text, context=CONTEXT) == b"secret"
    assert encrypt(b"secret", context=CONTEXT).split(".")[1] == new_id
    ((kept_id, kept),) = keys_kept().items()
    assert kept_id == text.split(".")[1] != new_id
    assert {stat.S_IMODE(path.stat().st_mode) for path in key_file.parent.iterdir()} == {0o600}
    kept.unlink()
    with pytest.raises(DecryptionFailed, match=kept_id):
        decrypt(text, context=CONTEXT)


def test_a_key_that_cannot_be_recorded_is_not_replaced(key_file: Path) -> None:
    def fail(_: str) -> None:
        raise OSError

    text = encrypt(b"secret", context=CONTEXT)
    with pytest.raises(OSError):  # noqa: PT011 — it is the one of above
        key_replace(record=fail)
    assert is_current(text)
    assert not [path for path in key_file.parent.iterdir() if not is_kept(path, key_file)]


def is_kept(path: Path, key_file: Path) -> bool:
    return path == key_file or path in keys_kept().values()


def test_another_process_uses_a_replaced_key_without_a_restart(key_file: Path) -> None:
    program = (
        "import sys; from django.conf import settings; settings.configure(KMS_KEY_ID='', KEY_FILE=sys.argv[1]);"
        "from controlplane.lib.envelope import encrypt, key_replace; key_replace(); print(encrypt(b'x', context=['c']))"
    )
    encrypt(b"secret", context=CONTEXT)
    text = subprocess.run(
        [sys.executable, "-c", program, str(key_file)], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert decrypt(text, context=["c"]) == b"x"
    assert is_current(text)
    assert is_current(encrypt(b"secret", context=CONTEXT))
