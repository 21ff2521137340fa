"""What of the agent's own environment the commands of a job get to see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

# What commands need to find programs, files, people's settings and the way out of a company's network.
# No secret of this machine is among it.
_ALWAYS = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
# How git reaches repositories; steps get these only when they are asked for.
_FOR_GIT = (
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_ASKPASS",
    "GIT_SSL_*",
    "GIT_CONFIG_GLOBAL",
)
# The agent's own settings, the enrolment token among them, are never passed on.
_OWN_PREFIX = "HYBRID_CI_"


def step_environment(environment: Mapping[str, str], passed: Iterable[str]) -> dict[str, str]:
    """What every step starts from; `passed` names more variables, with `*` for any characters."""
    return _pick(environment, [*_ALWAYS, *passed])


def git_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What git starts from."""
    return _pick(environment, [*_ALWAYS, *_FOR_GIT])


def _pick(environment: Mapping[str, str], patterns: list[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OWN_PREFIX) and any(fnmatchcase(name, pattern) for pattern in patterns)
    }
