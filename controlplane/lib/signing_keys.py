"""Keys that sign what others verify without a secret: seals of the audit trail, and identity tokens of jobs.

On AWS the private keys are in KMS (SIGNING_KEY_IDS) and never leave it. Elsewhere they are files beside KEY_FILE. The
audit trail's keys stay for ever, so that older seals still verify, and a new one signs from its first moment. What
verifies identity tokens keeps the published keys for a while. So a new identity key is published for a day before it
signs, and the one before it stays until its last token has ended.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from django.conf import settings

from controlplane.lib import clock
from controlplane.lib.frozen import frozen

# The names of algorithms as in JSON Web Signatures: RFC 7518 section 3.1 and RFC 8037 section 3.1.
RS256 = "RS256"
EDDSA = "EdDSA"
_RSA_BITS = 2048
_KEY_ID_DIGITS = 16
# KMS signs no more bytes than these.
SIGNED_MOST = 4096
# An identity key in a file is published for so long before it signs, and after another one has taken its place. Both
# are longer than a copy of the published keys is used (apps/secrets/views.py) and a token lasts.
PUBLISHED_BEFORE = timedelta(days=1)
PUBLISHED_AFTER = timedelta(hours=1)
_CREATED_FORM = "%Y%m%dT%H%M%S.%f"

PublicKey = rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class Purpose(StrEnum):
    """What a key signs. The data of one purpose must never be valid data of the other."""

    AUDIT = "audit"
    IDENTITY = "identity"


class SigningKey(Protocol):
    """A key that can sign."""

    @property
    def key_id(self) -> str:
        """Its id: the first 16 hexadecimal digits of the SHA-256 of its public key (SubjectPublicKeyInfo, DER)."""

    @property
    def algorithm(self) -> str:
        """RS256 or EdDSA."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies its signatures."""

    def sign(self, data: bytes) -> bytes:
        """The signature of at most SIGNED_MOST bytes. Raises Unavailable when KMS does not answer."""


def signing_key(purpose: Purpose) -> SigningKey:
    """The key that signs now. On a machine without KMS, the first call creates it. Raises Unavailable."""
    return signing_keys(purpose)[0]


def signing_keys(purpose: Purpose) -> list[SigningKey]:
    """The keys of the purpose whose signatures verify: first the one that signs now, then the others, newest first.

    Raises Unavailable when KMS does not answer.
    """
    if settings.SIGNING_KEY_IDS:
        return [_kms_key(key_id) for key_id in settings.SIGNING_KEY_IDS]
    names = _file_names(purpose) or [_file_create(purpose)]
    if purpose == Purpose.IDENTITY:
        names = _published(names)
    return [_file_key(str(_folder() / name)) for name in names]


def signing_key_create(purpose: Purpose, *, record: Callable[[str], None] | None = None) -> SigningKey:
    """Create a key in a file and return it. One for seals signs from now on, one for tokens in PUBLISHED_BEFORE.

    `record` gets its id before the key is there; there is no key if it raises. Raises RuntimeError if the keys are in
    KMS.
    """
    if settings.SIGNING_KEY_IDS:
        raise RuntimeError(
            "The keys that sign are in KMS. Create a key there, and add its alias to SIGNING_KEY_IDS as "
            "docs/operations.md says."
        )
    return _file_key(str(_folder() / _file_create(purpose, record)))


def identity_key_age() -> timedelta:
    """How old the newest identity key in a file is. The first call creates it."""
    (newest, *_) = _file_names(Purpose.IDENTITY) or [_file_create(Purpose.IDENTITY)]
    return clock.now() - _created(newest)


def identity_keys_delete_ended() -> int:
    """Delete the files of identity keys whose tokens have all ended. Returns their number."""
    names = _file_names(Purpose.IDENTITY)
    ended = set(names) - set(_published(names)) if names else set()
    for name in ended:
        # Another process may delete it at the same time.
        with suppress(FileNotFoundError):
            (_folder() / name).unlink()
    return len(ended)


def key_id_of(public_key: PublicKey) -> str:
    """The id of a key, from its public part."""
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:_KEY_ID_DIGITS]


def verify(public_key: PublicKey, signature: bytes, data: bytes) -> None:
    """Check a signature of `sign`. Raises cryptography's InvalidSignature."""
    if isinstance(public_key, rsa.RSAPublicKey):
        public_key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    else:
        public_key.verify(signature, data)


@frozen
class _FileKey:
    private: _PrivateKey
    public_key: PublicKey
    key_id: str

    @property
    def algorithm(self) -> str:
        return RS256 if isinstance(self.private, rsa.RSAPrivateKey) else EDDSA

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(data)


@frozen
class _KmsKey:
    kms_id: str
    public_key: PublicKey
    key_id: str
    algorithm: str = RS256

    def sign(self, data: bytes) -> bytes:
        # A machine without KMS does not import its client.
        from controlplane.lib.aws import client, failures_named

        with failures_named("KMS"):
            answer = client("kms").sign(
                KeyId=self.kms_id, Message=data, MessageType="RAW", SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256"
            )
        signature: bytes = answer["Signature"]
        return signature


@cache
def _kms_key(kms_id: str) -> _KmsKey:
    from controlplane.lib.aws import client, failures_named

    with failures_named("KMS"):
        answer = client("kms").get_public_key(KeyId=kms_id)
    public_key = serialization.load_der_public_key(answer["PublicKey"])
    if not isinstance(public_key, rsa.RSAPublicKey):
        raise RuntimeError(f"The key {kms_id} in SIGNING_KEY_IDS must be an RSA key that signs.")
    # Not the alias: it may lead to another key later, whose signatures this public key does not verify.
    return _KmsKey(answer["KeyId"], public_key, key_id_of(public_key))


def _folder() -> Path:
    return Path(settings.KEY_FILE).parent / "signing"


def _file_names(purpose: Purpose) -> list[str]:
    """The files of this purpose, newest first. Their names begin with their time of creation."""
    return sorted((path.name for path in _folder().glob(f"*.{purpose.value}.pem")), reverse=True)


def _created(name: str) -> datetime:
    """When the identity key in the file of this name was created."""
    try:
        return datetime.strptime(name.split(f".{Purpose.IDENTITY.value}.")[0], _CREATED_FORM).replace(tzinfo=UTC)
    except ValueError:
        raise RuntimeError(
            f"{_folder() / name} must have the name that it was created with, which begins with the time of that."
        ) from None


def _published(names: Sequence[str]) -> list[str]:
    """Of the files of identity keys, newest first: the one that signs, those that will, and those that just did."""
    now = clock.now()
    ready = [name for name in names if _created(name) + PUBLISHED_BEFORE <= now]
    # The first key of all signs at once.
    signing = ready[0] if ready else names[-1]
    place = names.index(signing)
    ends = _created(signing) + PUBLISHED_BEFORE + PUBLISHED_AFTER
    return [signing, *names[:place], *(names[place + 1 :] if now < ends else ())]


@cache
def _file_key(file: str) -> _FileKey:
    path = Path(file)
    with path.open("rb") as opened:
        if os.fstat(opened.fileno()).st_mode & 0o077:
            raise RuntimeError(f"Other users can read {path}. Run: chmod 600 {path}")
        private = serialization.load_pem_private_key(opened.read(), password=None)
    if not isinstance(private, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise RuntimeError(f"{path} must contain an RSA or Ed25519 key. Restore the correct file.")
    public_key = private.public_key()
    return _FileKey(private, public_key, key_id_of(public_key))


def _file_create(purpose: Purpose, record: Callable[[str], None] | None = None) -> str:
    """Create a key and return the name of its file. Two processes may each create one; then both verify."""
    private: _PrivateKey
    if purpose == Purpose.IDENTITY:
        # What verifies tokens of OpenID Connect must accept RS256; few accept EdDSA.
        private = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    else:
        private = ed25519.Ed25519PrivateKey.generate()
    data = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{clock.now():{_CREATED_FORM}}.{purpose.value}.pem"
    fresh = folder / f".{secrets.token_hex(8)}"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        if record is not None:
            record(key_id_of(private.public_key()))
        # The name appears with its whole content.
        fresh.rename(folder / name)
    finally:
        fresh.unlink(missing_ok=True)
    return name
