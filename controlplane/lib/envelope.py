"""Encrypting small secrets for storage: AES-256-GCM under a key that is not in the database.

An encrypted text is bound to its place (`context`): in another record or field, decryption fails. The first part of a
text is its kind. Kind 1 is encrypted under the machine's key file. Kind 2 is encrypted under a data key of KMS, and the
text contains that data key as KMS encrypted it:

    1.<id of the file's key>.<nonce>.<ciphertext>
    2.<id of KMS's key>.<encrypted data key>.<nonce>.<ciphertext>

If KMS_KEY_ID is set, new texts are of kind 2. Texts of kind 1 can be decrypted as long as the file of their key exists:
KEY_FILE, or a file beside it that `key_replace` has kept.
"""

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_LOCAL = "1"
_KMS = "2"
_KEY_BYTES = 32
# GCM's nonce size. Random nonces are safe for 2^32 encryptions by one key.
_NONCE_BYTES = 12
_LOCAL_KEY_ID = re.compile(r"local-[0-9a-f]{12}")
_KMS_KEY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class DecryptionFailed(Exception):
    """The text is damaged, or another control plane, context or key encrypted it."""


def encrypt(secret: bytes, *, context: Sequence[str]) -> str:
    """Encrypt `secret`. `context` names its place, for example ``("agent-key", agent_id, key_id)``.

    Raises Unavailable when KMS does not answer.
    """
    if settings.KMS_KEY_ID:
        # A machine without KMS does not import its client.
        from controlplane.lib.data_keys import data_key_for_encryption

        key = data_key_for_encryption()
        cipher, head = key.cipher, [_KMS, key.kms_key_id, _encode(key.encrypted)]
    else:
        key_id, cipher = _local_key(Path(settings.KEY_FILE))
        head = [_LOCAL, key_id]
    nonce = secrets.token_bytes(_NONCE_BYTES)
    ciphertext = cipher.encrypt(nonce, secret, _associated(head[:2], context))
    return ".".join([*head, _encode(nonce), _encode(ciphertext)])


def decrypt(text: str, *, context: Sequence[str]) -> bytes:
    """The secret that was encrypted for the same context. Raises DecryptionFailed, or Unavailable if KMS fails."""
    try:
        version, key_id, *encrypted, nonce, ciphertext = text.split(".")
        if (version, len(encrypted)) == (_LOCAL, 0):
            cipher = _local_cipher(key_id)
        elif (version, len(encrypted)) == (_KMS, 1):
            cipher = _kms_cipher(key_id, _decode(encrypted[0]))
        else:
            raise DecryptionFailed("the kind of the encrypted text is unknown")
        return cipher.decrypt(_decode(nonce), _decode(ciphertext), _associated([version, key_id], context))
    except (ValueError, InvalidTag) as error:
        raise DecryptionFailed("the text is damaged, or was encrypted by another key or for another context") from error


def is_current(text: str) -> bool:
    """Whether the key that encrypts now has encrypted this text. Raises Unavailable when KMS does not answer."""
    version, _, rest = text.partition(".")
    key_id = rest.partition(".")[0]
    if settings.KMS_KEY_ID:
        from controlplane.lib.data_keys import data_key_for_encryption

        return (version, key_id) == (_KMS, data_key_for_encryption().kms_key_id)
    return (version, key_id) == (_LOCAL, _local_key(Path(settings.KEY_FILE))[0])


def key_replace(*, record: Callable[[str], None] = lambda _: None) -> str:
    """Put a new key into KEY_FILE, which encrypts from now on in all processes. Returns the id of the new key.

    The key before it stays in a file beside it, whose name ends with the key's id, for what it has encrypted. `record`
    gets the id of the new key before it is there; nothing is replaced if it raises.
    """
    path = Path(settings.KEY_FILE)
    old_id, _ = _local_key(path)
    with suppress(FileExistsError):
        os.link(path, _kept(path, old_id))
    fresh = _key_write(path)
    try:
        record(_local_key(fresh)[0])
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return _local_key(path)[0]


def keys_kept() -> dict[str, Path]:
    """The files of the keys before the one in KEY_FILE, by the ids of their keys."""
    path = Path(settings.KEY_FILE)
    return {
        found.name.removeprefix(f"{path.name}."): found for found in sorted(path.parent.glob(f"{path.name}.local-*"))
    }


def _kept(path: Path, key_id: str) -> Path:
    return path.with_name(f"{path.name}.{key_id}")


def _associated(head: Sequence[str], context: Sequence[str]) -> bytes:
    return json.dumps([*head, *context]).encode()


def _kms_cipher(key_id: str, encrypted: bytes) -> AESGCM:
    from controlplane.lib.data_keys import UnknownDataKey, data_key_open

    # Another form could name a key of another account.
    if not _KMS_KEY_ID.fullmatch(key_id):
        raise DecryptionFailed("the text names no valid key of KMS")
    try:
        return data_key_open(key_id, encrypted).cipher
    except UnknownDataKey as error:
        raise DecryptionFailed("KMS did not encrypt the data key, or encrypted it for another stage") from error


def _local_cipher(text_key_id: str) -> AESGCM:
    # On AWS the file may be missing, and must not be created.
    if settings.KMS_KEY_ID and not Path(settings.KEY_FILE).exists():
        raise DecryptionFailed(
            f"the key {text_key_id} encrypted the text, but the file {settings.KEY_FILE} does not exist"
        )
    key_id, cipher = _local_key(Path(settings.KEY_FILE))
    if text_key_id == key_id:
        return cipher
    kept = _kept(Path(settings.KEY_FILE), text_key_id)
    if _LOCAL_KEY_ID.fullmatch(text_key_id) and kept.exists():
        return _local_key(kept)[1]
    raise DecryptionFailed(f"the key {text_key_id} encrypted the text, but the key file has the key {key_id}")


def _local_key(path: Path) -> tuple[str, AESGCM]:
    """The key in the file and its id, which identifies the key without revealing it. A missing file is created."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return _named(_key_read(path) or _key_make(path))
    # Another process may have replaced the file.
    return _key_of(path, found.st_ino, found.st_mtime_ns, found.st_mode)


@lru_cache(maxsize=16)
def _key_of(path: Path, *_version: int) -> tuple[str, AESGCM]:
    return _named(_key_read(path) or _key_make(path))


def _named(key: bytes) -> tuple[str, AESGCM]:
    return f"local-{hashlib.sha256(b'key id of ' + key).hexdigest()[:12]}", AESGCM(key)


def _key_read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read()
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise RuntimeError(f"Other users can read {path}. Run: chmod 600 {path}")
    if len(key) != _KEY_BYTES:
        raise RuntimeError(f"{path} does not contain a key of {_KEY_BYTES} bytes. Restore the correct file.")
    return key


def _key_make(path: Path) -> bytes:
    """Create the key file atomically and return its key. If another process has created it, return that key."""
    fresh = _key_write(path)
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
        raise RuntimeError(f"{path} was deleted while it was created. Try again.")
    return key


def _key_write(path: Path) -> Path:
    """Write a new key to a new file beside `path`, and return that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return fresh


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
