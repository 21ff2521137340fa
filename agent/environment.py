"""Which variables of the agent's own environment the commands of a job get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

# Commands need these to find programs, files and the network's proxy. None of them is a secret.
_ALWAYS = (
    *("PATH", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
# git needs these to reach repositories. Steps get them only if --pass-env names them, and a home of their own.
_FOR_GIT = (
    "HOME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_ASKPASS",
    "GIT_SSL_*",
    "GIT_CONFIG_GLOBAL",
)
# podman and docker need these to find their settings, storage, daemon and credentials of registries.
_FOR_ENGINE = (
    *("HOME", "TMPDIR", "XDG_*", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_*", "CONTAINER_*", "CONTAINERS_*", "STORAGE_*"),
    *("REGISTRY_AUTH_FILE", "SSH_AUTH_SOCK"),
)
# Variables for programs on this machine are wrong in a container, which has its own programs.
_NOT_IN_CONTAINERS = ("PATH", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "SSL_CERT_*")
# The agent never passes on its own settings, such as the enrolment token.
_OWN_PREFIX = "HYBRID_CI_"
_WILD = frozenset("*?[")


def step_environment(environment: Mapping[str, str], passed: Iterable[str]) -> dict[str, str]:
    """The variables that every step gets. `passed` names additional ones; `*` matches any characters."""
    return _pick(environment, [*_ALWAYS, *passed])


def git_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that git gets."""
    return _pick(environment, [*_ALWAYS, *_FOR_GIT])


def engine_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that podman or docker gets."""
    return _pick(environment, [*_ALWAYS, *_FOR_ENGINE])


def container_environment(environment: Mapping[str, str], passed: Iterable[str]) -> dict[str, str]:
    """The variables that steps in a container get. `passed` names additional ones, as for `step_environment`."""
    passed = list(passed)
    always = {
        name: value
        for name, value in _pick(environment, list(_ALWAYS)).items()
        if not any(fnmatchcase(name, pattern) for pattern in _NOT_IN_CONTAINERS)
    }
    return {**always, **_pick(environment, passed)}


def _pick(environment: Mapping[str, str], patterns: list[str]) -> dict[str, str]:
    # Most are plain names, and each pattern has to be compiled first.
    wild = [pattern for pattern in patterns if set(pattern) & _WILD]
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OWN_PREFIX)
        and (name in patterns or any(fnmatchcase(name, pattern) for pattern in wild))
    }
