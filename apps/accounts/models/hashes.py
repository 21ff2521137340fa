"""The hash under which a secret is stored."""

import hashlib


def secret_hash(secret: str) -> str:
    """SHA-256 in hexadecimal: stored instead of a token, and the key of its item.

    Our tokens are long and random, so the hash needs no salt and need not be slow. The item is found by the hash of
    what the client sent, so no secret is compared and no comparison leaks anything by its duration.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
