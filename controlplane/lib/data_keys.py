"""Data keys of KMS: each encrypted text contains its data key, which KMS has encrypted.

Each call to KMS costs money and some milliseconds, so a process caches keys for a while: see docs/decisions/0010.
"""

import threading
import time
from dataclasses import dataclass, field

from botocore.exceptions import ClientError
from cachetools import TTLCache
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from controlplane.lib.aws import client, failures_named

# How long a process caches a key, and so how long it can still use a key after its access to KMS has ended.
LIFETIME_SECONDS = 3600
# How many texts one key encrypts. GCM's random nonces would allow a million times more.
ENCRYPTIONS_AT_MOST = 1_000
_REMEMBERED_AT_MOST = 10_000

# KMS's error codes for a data key that it did not encrypt, or not with this key or for this stage.
_UNKNOWN_CODES = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})


class UnknownDataKey(Exception):
    """KMS did not encrypt this data key, or encrypted it for another stage."""


@dataclass(frozen=True)
class DataKey:
    """A data key. A text stores two parts of it: the id of the KMS key and the data key as KMS encrypted it."""

    kms_key_id: str
    encrypted: bytes
    cipher: AESGCM = field(repr=False)


@dataclass
class _Encryption:
    """The data key with which this process encrypts, and how many texts it has encrypted with it."""

    key: DataKey
    uses: int = 0


class _Keys:
    """The data keys that this process caches: one for encryption under each KMS key, and all that KMS has decrypted.

    If two threads need the same missing key, both call KMS, which does no harm.
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
    """A data key for encryption under the KMS key that KMS_KEY_ID names. Raises Unavailable."""
    name = settings.KMS_KEY_ID
    key = _keys.encryption(name)
    if key is None:
        with failures_named("KMS"):
            made = client("kms").generate_data_key(KeyId=name, KeySpec="AES_256", EncryptionContext=_context())
        # An alias may later name another key, so the id of the key itself is stored.
        key = DataKey(made["KeyId"].rpartition("/")[2], made["CiphertextBlob"], AESGCM(made["Plaintext"]))
        _keys.made(name, key)
    return key


def data_key_open(kms_key_id: str, encrypted: bytes) -> DataKey:
    """The data key that a text contains, decrypted. Raises UnknownDataKey, or Unavailable.

    `kms_key_id` comes from the text. It must not contain an account, so that it names a key of the product's account.
    """
    key = _keys.opened(encrypted)
    if key is None or key.kms_key_id != kms_key_id:
        with failures_named("KMS"):
            try:
                opened = client("kms").decrypt(KeyId=kms_key_id, CiphertextBlob=encrypted, EncryptionContext=_context())
            except ClientError as error:
                if error.response["Error"]["Code"] in _UNKNOWN_CODES:
                    raise UnknownDataKey from error
                raise
        key = DataKey(kms_key_id, encrypted, AESGCM(opened["Plaintext"]))
        _keys.keep(key)
    return key


def data_keys_forget() -> None:
    """Clear the cache, so that the next encryption and the next decryption call KMS."""
    _keys.clear()


def _context() -> dict[str, str]:
    """The encryption context of data keys. KMS binds each data key to it and writes it to CloudTrail."""
    return {"project": "hybrid-ci-cd", "stage": settings.STAGE, "use": "seal"}
