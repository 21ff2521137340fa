"""Keys for encryption that KMS makes and opens: each is stored, encrypted by KMS, in the texts that it encrypts.

KMS bills each call and each takes some milliseconds, so a process keeps keys for a while: see docs/decisions/0010.
"""

import threading
import time
from dataclasses import dataclass, field

from botocore.exceptions import ClientError
from cachetools import TTLCache
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from controlplane.lib.aws import client, failures_named

# How long a process uses a key before it asks KMS anew, and so how long it goes on when the key is taken from it.
LIFETIME_SECONDS = 3600
# How much one key encrypts; GCM's random nonces would allow a million times more.
ENCRYPTIONS_AT_MOST = 1_000
_REMEMBERED_AT_MOST = 10_000

# KMS's words for a key that it did not encrypt, or not with this key or for this stage.
_NOT_OURS = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})


class UnknownDataKey(Exception):
    """KMS did not encrypt this, or not for this stage."""


@dataclass(frozen=True)
class DataKey:
    """A key and what a text carries of it: the id of the key that KMS encrypted it with, and what came out."""

    kms_key_id: str
    encrypted: bytes
    cipher: AESGCM = field(repr=False)


@dataclass
class _Encryption:
    """The key with which this process encrypts, and for how many texts it has done so."""

    key: DataKey
    uses: int = 0


class _Keys:
    """The keys that this process remembers: one for encryption under each KMS key, and those that it has decrypted.

    Two threads that miss a key at once both ask KMS, which does no harm.
    """

    def __init__(self) -> None:
        self._encryption: TTLCache[str, _Encryption] = TTLCache(_REMEMBERED_AT_MOST, LIFETIME_SECONDS, timer=_seconds)
        self._opened: TTLCache[bytes, DataKey] = TTLCache(_REMEMBERED_AT_MOST, LIFETIME_SECONDS, timer=_seconds)
        self._lock = threading.Lock()

    def encryption(self, name: str) -> DataKey | None:
        with self._lock:
            found = self._encryption.get(name)
            if found is None or found.uses >= ENCRYPTIONS_AT_MOST:
                return None
            found.uses += 1
            return found.key

    def opened(self, encrypted: bytes) -> DataKey | None:
        with self._lock:
            return self._opened.get(encrypted)

    def made(self, name: str, key: DataKey) -> None:
        with self._lock:
            self._encryption[name] = _Encryption(key, uses=1)
            # The process that encrypts with a key can also decrypt with it.
            self._opened[key.encrypted] = key

    def keep(self, key: DataKey) -> None:
        with self._lock:
            self._opened[key.encrypted] = key

    def clear(self) -> None:
        with self._lock:
            self._encryption.clear()
            self._opened.clear()


def _seconds() -> float:
    return time.monotonic()


_keys = _Keys()


def data_key_for_encryption() -> DataKey:
    """A key to encrypt with, under the KMS key that KMS_KEY_ID names. Raises Unavailable."""
    name = settings.KMS_KEY_ID
    key = _keys.encryption(name)
    if key is None:
        with failures_named("KMS"):
            made = client("kms").generate_data_key(KeyId=name, KeySpec="AES_256", EncryptionContext=_context())
        # An alias may come to mean another key; the key's own id does not.
        key = DataKey(made["KeyId"].rpartition("/")[2], made["CiphertextBlob"], AESGCM(made["Plaintext"]))
        _keys.made(name, key)
    return key


def data_key_open(kms_key_id: str, encrypted: bytes) -> DataKey:
    """The key that a text carries. Raises UnknownDataKey, or Unavailable.

    `kms_key_id` is what the text says: without an account in it, it can only mean a key of ours.
    """
    key = _keys.opened(encrypted)
    if key is None or key.kms_key_id != kms_key_id:
        with failures_named("KMS"):
            try:
                opened = client("kms").decrypt(KeyId=kms_key_id, CiphertextBlob=encrypted, EncryptionContext=_context())
            except ClientError as error:
                if error.response["Error"]["Code"] in _NOT_OURS:
                    raise UnknownDataKey from error
                raise
        key = DataKey(kms_key_id, encrypted, AESGCM(opened["Plaintext"]))
        _keys.keep(key)
    return key


def data_keys_forget() -> None:
    """Let the next encryption and the next opening ask KMS."""
    _keys.clear()


def _context() -> dict[str, str]:
    """What KMS binds a data key to, and writes to its own trail. What each text is bound to is the text's business."""
    return {"project": "hybrid-ci-cd", "stage": settings.STAGE, "use": "seal"}
