"""Sealing small secrets for storage: AES-256-GCM under a key that is not in the database.

A sealed text is bound to the place it was made for (its `context`): moved to another record or field, it does not open.
It names its key, so that other keys (a KMS data key) can follow while what was sealed before still opens.
"""

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_VERSION = "1"
_KEY_BYTES = 32
# GCM's own; random ones are safe for 2^32 sealings by one key.
_NONCE_BYTES = 12


class SealBroken(Exception):
    """The text was not sealed here, not for this context, or not by a key that we have."""


def seal(secret: bytes, *, context: Sequence[str]) -> str:
    """Encrypt `secret`. `context` names its place, for example ``("agent-key", agent_id, key_id)``."""
    key_id, cipher = _local_key(str(settings.KEY_FILE))
    nonce = secrets.token_bytes(_NONCE_BYTES)
    ciphertext = cipher.encrypt(nonce, secret, _associated(key_id, context))
    return ".".join([_VERSION, key_id, _encode(nonce), _encode(ciphertext)])


def unseal(text: str, *, context: Sequence[str]) -> bytes:
    """What was sealed under the same context. Raises SealBroken."""
    try:
        version, text_key_id, nonce, ciphertext = text.split(".")
        key_id, cipher = _local_key(str(settings.KEY_FILE))
        if (version, text_key_id) != (_VERSION, key_id):
            raise SealBroken(f"it was sealed by the key {text_key_id}, and this is {key_id}")
        return cipher.decrypt(_decode(nonce), _decode(ciphertext), _associated(key_id, context))
    except (ValueError, InvalidTag) as error:
        raise SealBroken("it was not sealed here, or not for this place") from error


def _associated(key_id: str, context: Sequence[str]) -> bytes:
    return json.dumps([_VERSION, key_id, *context]).encode()


@cache
def _local_key(file: str) -> tuple[str, AESGCM]:
    """The key of this machine and its id, which tells keys apart and nothing of what they are."""
    path = Path(file)
    key = _key_read(path) or _key_make(path)
    return f"local-{hashlib.sha256(b'key id of ' + key).hexdigest()[:12]}", AESGCM(key)


def _key_read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read()
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise RuntimeError(f"{path} can be read by others. Make it yours alone: chmod 600 {path}")
    if len(key) != _KEY_BYTES:
        raise RuntimeError(f"{path} holds no key of {_KEY_BYTES} bytes. Put the right file back.")
    return key


def _key_make(path: Path) -> bytes:
    """Write a new key, whole or not at all; when another process was faster, its key is the one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        # Unlike a rename, a link never replaces a key that is already there.
        os.link(fresh, path)
        _sync_directory(path.parent)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    key = _key_read(path)
    if key is None:
        raise RuntimeError(f"{path} was taken away while it was made.")
    return key


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
