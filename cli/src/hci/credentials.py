"""Tokens: in the system's keyring where there is one that works, else in ``tokens.json`` of mode 0600.

A token is kept together with the address that it is for, and is sent to no other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hci.config import Profile, folder
from hci.errors import HciError, UsageProblem
from hci.files import private_read, private_write

_SERVICE = "hci"


def token_save(profile: str, server: str, token: str) -> str:
    """Keep the token. Returns where it is: `keyring` or `file`."""
    keyring = _keyring()
    if keyring is not None and _kept_in(keyring, _account(profile, server), token):
        _file_remove(profile)
        return "keyring"
    tokens = _tokens()
    tokens[profile] = {"server": server, "token": token}
    _write(tokens)
    return "file"


def token_find(profile: Profile) -> str | None:
    """The profile's token. Raises HciError if the keyring or the file that should have it cannot be read."""
    if profile.store == "keyring":
        return _from_keyring(profile)
    found = _tokens().get(profile.name)
    if not isinstance(found, dict) or found.get("server") != profile.server:
        return None
    token = found.get("token")
    return token if isinstance(token, str) else None


def token_remove(profile: Profile) -> None:
    if profile.store == "keyring":
        keyring = _keyring()
        if keyring is None:
            raise HciError("The keyring cannot be opened, so the token is still in it.")
        try:
            keyring.delete_password(_SERVICE, _account(profile.name, profile.server))
        except Exception as error:
            raise HciError("The keyring did not delete the token.") from error
    _file_remove(profile.name)


def _account(profile: str, server: str) -> str:
    return f"{profile} {server}"


def _keyring() -> Any | None:
    """The system's keyring, if the package `keyring` is installed and finds one that keeps secrets."""
    try:
        import keyring
        from keyring.backends import fail, null

        found = keyring.get_keyring()
        usable = not isinstance(found, (fail.Keyring, null.Keyring)) and found.priority >= 1
    except Exception:  # noqa: BLE001 — each keyring raises errors of its own
        return None
    return found if usable else None


def _kept_in(keyring: Any, account: str, token: str) -> bool:
    try:
        keyring.set_password(_SERVICE, account, token)
        return bool(keyring.get_password(_SERVICE, account) == token)
    except Exception:  # noqa: BLE001 — each keyring raises errors of its own
        return False


def _from_keyring(profile: Profile) -> str | None:
    keyring = _keyring()
    if keyring is None:
        raise HciError(
            "The token is in the system's keyring, which cannot be opened here.",
            hints=("Set HCI_TOKEN, or log in again: hci login",),
        )
    try:
        found = keyring.get_password(_SERVICE, _account(profile.name, profile.server))
    except Exception as error:
        raise HciError(
            "The system's keyring does not give the token.", hints=("Unlock it, or set HCI_TOKEN.",)
        ) from error
    return found if isinstance(found, str) else None


def _path() -> Path:
    return folder() / "tokens.json"


def _tokens() -> dict[str, Any]:
    content = private_read(_path(), secret=True)
    try:
        found = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageProblem(f"{_path()} is damaged. Delete it and log in again.")
    return found


def _write(tokens: dict[str, Any]) -> None:
    private_write(_path(), json.dumps(tokens, indent=2) + "\n")


def _file_remove(profile: str) -> None:
    tokens = _tokens()
    if tokens.pop(profile, None) is not None:
        _write(tokens)
