"""Signed list cursors: the place where a page of a list begins. Only this control plane can create one."""

from typing import Any

from django.core import signing

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput

# DynamoDB's longest key (2,048 + 1,024 bytes and an index's) fits. A longer text is forged.
MAX_LENGTH = 8192


def cursor_encode(scope: str, key: dict[str, Any]) -> str:
    """A cursor for `key` (a dictionary of JSON values). It consists of the characters ``[A-Za-z0-9._-]``.

    `scope` names the list and its filters: another list, or the same list with other filters, rejects the cursor.
    """
    return _signer(scope).sign_object(key)


def cursor_decode(scope: str, text: str) -> dict[str, Any]:
    """The key in a cursor that `cursor_encode` made for the same scope.

    Raises InvalidInput for the field "cursor" (code ``invalid_cursor``) if the cursor is invalid or of another list.
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
