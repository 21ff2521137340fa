"""Patterns that say which repositories may be used, and the strict matching of addresses by them.

A pattern is `host/path`, `scheme://host/path` or, for repositories on the machine itself, an absolute path:

    github.com/acme/*               https and ssh (also git@github.com:acme/app.git), each repository of acme
    github.com/acme/**              the same, in folders below it, too
    *.example.org/**                every host below example.org, but not example.org itself
    http://git.lan:8080/tools/app   only this scheme and this port
    /srv/git/**                     a path on the agent's machine, also as file:///srv/git/…

`*` matches any characters of one part of the path, `**` for one or more whole parts, and `*.` at the beginning of
the host for one or more names. A host is compared in whole and without case, a path with case; `.git` and a slash at
the end do not count, nor does the user name of ssh. An address that two programs could read in two ways matches no
pattern: one with `..`, an empty part, a backslash, an encoded slash, a query, a fragment or a user name outside ssh.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional
from urllib.parse import unquote

_DEFAULT_PORTS = {"https": "443", "ssh": "22", "http": "80", "git": "9418"}
# What a pattern without a scheme means. The other schemes do not prove who answers.
_AUTHENTIC = ("https", "ssh")

# `re` compiles these at their first use: most processes of the control plane never need them.
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
_USER = r"(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*@)?"
_URL = rf"(?P<scheme>[a-z]+)://{_USER}(?P<host>{_HOST})(?P<port>:[0-9]{{1,5}})?/(?P<path>.+)"
_SCP_LIKE = rf"{_USER}(?P<host>{_HOST}):/?(?P<path>[^/].*)"
_LOCAL = r"(?:file://)?/(?P<path>[^/].*)"
_PATTERN = rf"(?:(?P<scheme>https|ssh|http|git)://)?(?P<host>(?:\*\.)?{_HOST})(?P<port>:[0-9]{{1,5}})?/(?P<path>.+)"
_PATH_OF_PATTERN = r"[^\s\\?#%:@,\x00-\x1f\x7f]+"
_NOT_IN_ADDRESS = r"[\s\\?#\x00-\x1f\x7f]"


@dataclass(frozen=True)
class _Address:
    """A repository's address in its parts. `host` is in lower case, and empty for a repository on this machine."""

    scheme: str
    host: str
    port: Optional[str]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class RepositoryPattern:
    """One pattern; `text` is as it was written."""

    text: str
    _schemes: tuple[str, ...]
    _host: re.Pattern[str]
    _port: Optional[str]
    _path: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> RepositoryPattern:
        """Raises ValueError with what a pattern must be."""
        local = text.startswith("/")
        match = None if local else re.fullmatch(_PATTERN, text)
        path = text[1:] if local else match["path"] if match else ""
        parts = _parts(path)
        if parts is None or not re.fullmatch(_PATH_OF_PATTERN, path):
            raise ValueError(
                f"{text!r} must be a pattern such as github.com/acme/*, https://git.example.org/** or /srv/git/**"
            )
        if match is None:
            return cls(text, ("file",), re.compile(""), None, _path_expression(parts))
        schemes = (match["scheme"],) if match["scheme"] else _AUTHENTIC
        port = match["port"][1:] if match["port"] else None
        return cls(text, schemes, _host_expression(match["host"].lower()), port, _path_expression(parts))

    def matches(self, address: str) -> bool:
        """Whether the address, as a pipeline has it, is certainly one of the repositories that the pattern means."""
        found = _address(address)
        if found is None or found.scheme not in self._schemes:
            return False
        default = _DEFAULT_PORTS.get(found.scheme)
        return (
            (found.port or default) == (self._port or default)
            and self._host.fullmatch(found.host) is not None
            and self._path.fullmatch("/".join(found.parts)) is not None
        )


def repository_is_allowed(address: str, patterns: Iterable[RepositoryPattern]) -> bool:
    """Whether a pattern matches. Without any pattern every repository is allowed."""
    patterns = list(patterns)
    return not patterns or any(pattern.matches(address) for pattern in patterns)


def _address(text: str) -> Optional[_Address]:
    """The address in its parts, or None if it could be read in more than one way."""
    if re.search(_NOT_IN_ADDRESS, text):
        return None
    match = re.fullmatch(_LOCAL, text)
    if match is not None:
        scheme, host, port = "file", "", None
    elif "://" in text:
        match = re.fullmatch(_URL, text)
        if match is None or match["scheme"] not in _DEFAULT_PORTS or (match["user"] and match["scheme"] != "ssh"):
            return None
        scheme, host, port = match["scheme"], match["host"].lower(), match["port"] and str(int(match["port"][1:]))
    else:
        match = re.fullmatch(_SCP_LIKE, text)
        if match is None:
            return None
        scheme, host, port = "ssh", match["host"].lower(), None
    parts = _parts(match["path"], encoded="://" in text)
    return None if parts is None else _Address(scheme, host, port, parts)


def _parts(path: str, *, encoded: bool = False) -> Optional[tuple[str, ...]]:
    """The parts of a path without the end `.git`, or None if a part is empty, dots alone, or contains a separator."""
    path = path[:-1] if path.endswith("/") else path
    path = path[:-4] if path.endswith(".git") else path
    parts = tuple(unquote(part, errors="strict") if encoded else part for part in path.split("/"))
    if any(part in ("", ".", "..") or "/" in part or re.search(_NOT_IN_ADDRESS, part) for part in parts):
        return None
    return parts


def _host_expression(host: str) -> re.Pattern[str]:
    if host.startswith("*."):
        return re.compile(rf"(?:[a-z0-9-]+\.)+{re.escape(host[2:])}")
    return re.compile(re.escape(host))


def _path_expression(parts: tuple[str, ...]) -> re.Pattern[str]:
    def expression(part: str) -> str:
        if part == "**":
            return r"[^/]+(?:/[^/]+)*"
        return "[^/]+".join(re.escape(text) for text in re.split(r"\*+", part))

    return re.compile("/".join(expression(part) for part in parts))
