"""Profiles: which control plane is meant, in ``config.json`` of the folder for settings."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hci.errors import UsageProblem
from hci.files import private_read, private_write

DEFAULT_PROFILE = "default"
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def folder() -> Path:
    """Where profiles are kept: ``$XDG_CONFIG_HOME/hci``, by default ``~/.config/hci``."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path is to be ignored (XDG Base Directory Specification).
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "hci"


@dataclass(frozen=True)
class Profile:
    """A control plane, and where the token for it is: `keyring` or `file`."""

    name: str
    server: str
    store: str = "file"


def profile_name(given: str | None) -> str:
    """The profile that is meant: `--profile`, HCI_PROFILE, or the default one. Raises UsageProblem."""
    name = given or os.environ.get("HCI_PROFILE") or DEFAULT_PROFILE
    if not _PROFILE.fullmatch(name):
        raise UsageProblem("The name of a profile must have letters, digits, “.”, “_” and “-”, at most 63 of them.")
    return name


def profile_find(name: str) -> Profile | None:
    """A profile that is stored. Raises HciError."""
    found = _profiles().get(name)
    if not isinstance(found, Mapping) or not isinstance(found.get("server"), str):
        return None
    return Profile(name, found["server"], "keyring" if found.get("store") == "keyring" else "file")


def profile_save(profile: Profile) -> None:
    profiles = _profiles()
    profiles[profile.name] = {"server": profile.server, "store": profile.store}
    _write(profiles)


def profile_remove(name: str) -> None:
    profiles = _profiles()
    if profiles.pop(name, None) is not None:
        _write(profiles)


def server_address(text: str) -> str:
    """The address of a control plane without a slash at its end. Raises UsageProblem."""
    try:
        parts = urlsplit(text.strip())
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageProblem(f"The server must be an address such as https://ci.example.com, not “{text[:200]}”.")
    return text.strip().rstrip("/")


def sends_openly(server: str) -> bool:
    """Whether a token would go through a network unencrypted."""
    parts = urlsplit(server)
    try:
        local = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        local = parts.hostname == "localhost"
    return parts.scheme == "http" and not local


def _path() -> Path:
    return folder() / "config.json"


def _profiles() -> dict[str, Any]:
    content = private_read(_path(), secret=False)
    if content is None:
        return {}
    try:
        found = json.loads(content).get("profiles", {})
    except (ValueError, AttributeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageProblem(f"{_path()} is damaged. Delete it and log in again.")
    return found


def _write(profiles: Mapping[str, Any]) -> None:
    private_write(_path(), json.dumps({"profiles": profiles}, indent=2) + "\n")
