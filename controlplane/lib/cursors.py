"""Signed list cursors: where the next page of a list begins, in a form that only this control plane can make."""

from typing import Any

from django.core import signing

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput

# DynamoDB's longest key (2,048 + 1,024 bytes and an index's) fits; anything longer is not ours.
MAX_LENGTH = 8192


def cursor_encode(scope: str, key: dict[str, Any]) -> str:
    """The text that continues a list after `key` (JSON values), of the characters ``[A-Za-z0-9._-]`` only.

    `scope` names the list and its filters: a cursor of one list does not open in another, nor under other filters.
    """
    return _signer(scope).sign_object(key)


def cursor_decode(scope: str, text: str) -> dict[str, Any]:
    """The key that `cursor_encode` was given under the same scope.

    Raises InvalidInput for the field "cursor" (code ``invalid_cursor``) if the text is forged, foreign or broken.
    """
    if len(text) > MAX_LENGTH or not text.isascii():
        raise _invalid()
    try:
        key = _signer(scope).unsign_object(text)
    except signing.BadSignature as error:
        raise _invalid() from error
    if not isinstance(key, dict):
        raise _invalid()
    return key


def _signer(scope: str) -> signing.Signer:
    return signing.Signer(salt=f"cursor of {scope}", sep=".")


def _invalid() -> InvalidInput:
    return InvalidInput.field("cursor", "must be a cursor of this list", code=ErrorCode.INVALID_CURSOR)
