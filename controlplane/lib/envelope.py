"""Encrypting small secrets for storage: AES-256-GCM under a key that is not in the database.

An encrypted text is bound to the place it was made for (its `context`): in another record or field it does not decrypt.
There are two kinds, which differ in their first part. One is encrypted under one machine's key file, the other under a
data key from KMS, which it carries as KMS encrypted it:

    1.<id of the file's key>.<nonce>.<ciphertext>
    2.<id of KMS's key>.<encrypted data key>.<nonce>.<ciphertext>

Where KMS_KEY_ID is set, KMS's data keys encrypt what is new. Older texts decrypt as long as the key file is there.
"""

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_LOCAL = "1"
_KMS = "2"
_KEY_BYTES = 32
# GCM's own; random ones are safe for 2^32 encryptions by one key.
_NONCE_BYTES = 12
_KMS_KEY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class DecryptionFailed(Exception):
    """The text was not encrypted here, not for this context, or not by a key that we have."""


def encrypt(secret: bytes, *, context: Sequence[str]) -> str:
    """Encrypt `secret`. `context` names its place, for example ``("agent-key", agent_id, key_id)``.

    Raises Unavailable when KMS does not answer.
    """
    if settings.KMS_KEY_ID:
        # Where there is no KMS, nothing of it is loaded.
        from controlplane.lib.data_keys import data_key_for_encryption

        key = data_key_for_encryption()
        cipher, head = key.cipher, [_KMS, key.kms_key_id, _encode(key.encrypted)]
    else:
        key_id, cipher = _local_key(str(settings.KEY_FILE))
        head = [_LOCAL, key_id]
    nonce = secrets.token_bytes(_NONCE_BYTES)
    ciphertext = cipher.encrypt(nonce, secret, _associated(head[:2], context))
    return ".".join([*head, _encode(nonce), _encode(ciphertext)])


def decrypt(text: str, *, context: Sequence[str]) -> bytes:
    """What was encrypted under the same context. Raises DecryptionFailed, or Unavailable when KMS does not answer."""
    try:
        version, key_id, *encrypted, nonce, ciphertext = text.split(".")
        if (version, len(encrypted)) == (_LOCAL, 0):
            cipher = _local_cipher(key_id)
        elif (version, len(encrypted)) == (_KMS, 1):
            cipher = _kms_cipher(key_id, _decode(encrypted[0]))
        else:
            raise DecryptionFailed("it is of no kind that is known here")
        return cipher.decrypt(_decode(nonce), _decode(ciphertext), _associated([version, key_id], context))
    except (ValueError, InvalidTag) as error:
        raise DecryptionFailed("it was not encrypted here, or not for this place") from error


def _associated(head: Sequence[str], context: Sequence[str]) -> bytes:
    return json.dumps([*head, *context]).encode()


def _kms_cipher(key_id: str, encrypted: bytes) -> AESGCM:
    from controlplane.lib.data_keys import UnknownDataKey, data_key_open

    # Anything else could name a key of another account.
    if not _KMS_KEY_ID.fullmatch(key_id):
        raise DecryptionFailed("it names no key of KMS's")
    try:
        return data_key_open(key_id, encrypted).cipher
    except UnknownDataKey as error:
        raise DecryptionFailed("KMS did not encrypt its key, or not for this stage") from error


def _local_cipher(text_key_id: str) -> AESGCM:
    # On AWS there is no such file, and none is made.
    if settings.KMS_KEY_ID and not Path(settings.KEY_FILE).exists():
        raise DecryptionFailed(f"it was encrypted by the key {text_key_id}, and there is no {settings.KEY_FILE}")
    key_id, cipher = _local_key(str(settings.KEY_FILE))
    if text_key_id != key_id:
        raise DecryptionFailed(f"it was encrypted by the key {text_key_id}, and this is {key_id}")
    return cipher


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
