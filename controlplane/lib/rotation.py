"""What rotators and targets are. A team adds its own systems by such classes: docs/rotation.md.

A **rotator** makes the new value of a secret and gets it accepted where it is checked. A **target** is a system that
holds a copy. A rotation calls their steps in this order:

    prepare   of the rotator and of all targets: check that all can be reached; change nothing
    make      of the rotator: the new value, which becomes a pending version of the secret
    apply     of the rotator, then of each target
    verify    of the rotator, then of each target
              … the new value becomes current; until here a failure reverts, and from here on nothing does …
    commit    when the overlap has ended: of each target, then of the rotator, which ends the old value
    revert    after a failure, of each system whose `apply` has begun, in reverse order: the old value is the only one

A process can end at any moment, and an answer can be lost. So each step may be called again, and must find out first
what it has done before: it reads, and writes only what differs. A step that has returned is never called again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from controlplane.lib.frozen import frozen

# What a step wants later steps of the same system to know: small, and never a secret. It is stored and shown.
Notes = dict[str, str]

_REQUIRED = object()


class StepRefused(Exception):
    """The system refuses, and would refuse again. The rotation is reverted.

    The message is stored and shown: it says what to do, and never contains a secret.
    """


class NotYet(Exception):
    """The step goes on later: it is called again `after` this time. That is no failure until `System.patience` ends.

    `notes` are kept for the next call. The message says what it waits for.
    """

    def __init__(self, message: str, *, after: timedelta = timedelta(seconds=10), notes: Notes | None = None) -> None:
        super().__init__(message)
        self.after = after
        self.notes = notes or {}


@frozen
class Step:
    """What a step works with.

    - `step_id`: the same in each call of this step, and in no other step; for idempotency keys.
    - `config`: the system's configuration, as `System.options` describes it, with all defaults.
    - `old`: the current value of the secret. `new`: the pending one; empty until `make` has returned it.
    - `notes`: what this system's earlier steps have noted, and this step's earlier calls by `NotYet`.
    - `began_at`: when the rotation began. `is_repeated`: an earlier call of this step may have done something.
    - `is_urgent`: the user does not want to wait for the sake of clients that still use the old value.
    - `credential`: the value of another secret by its id, for example of a token. Raises StepRefused without one.
    """

    step_id: str
    rotation_id: str
    secret_id: str
    config: Mapping[str, Any]
    old: str = field(repr=False)
    new: str = field(repr=False)
    notes: Mapping[str, str]
    began_at: datetime
    is_repeated: bool
    is_urgent: bool
    credential: Callable[[str], str] = field(repr=False)


@frozen
class Option:
    """One member of a system's configuration. `rule` continues its name in messages: ``must be …``.

    A text must match `pattern` as a whole. `names_secret`: the text is the id of a secret of the store. A value itself
    must never be in a configuration.
    """

    rule: str
    kind: type = str
    pattern: str = ""
    default: Any = _REQUIRED
    least: int = 0
    most: int = 1_000_000
    names_secret: bool = False

    @property
    def is_required(self) -> bool:
        return self.default is _REQUIRED

    def accepts(self, value: Any) -> bool:
        """Whether a configuration may have this value. A list is of texts."""
        if type(value) is not self.kind:
            return False
        if isinstance(value, int):
            return isinstance(value, bool) or self.least <= value <= self.most
        texts: list[Any] = value if isinstance(value, list) else [value]
        if isinstance(value, list) and not self.least <= len(value) <= self.most:
            return False
        return all(isinstance(text, str) and re.fullmatch(self.pattern, text) for text in texts)


# Patterns and options that several systems share.
SECRET_ID = r"[A-Z][A-Z0-9_]{0,63}(?:\.[0-9a-f]{12})?"
ADDRESS = r"https?://[A-Za-z0-9.\[\]:-]{1,255}(?:/[A-Za-z0-9._~/-]{0,255})?"


def secret_option(what: str) -> Option:
    """An option that names the secret with a credential."""
    return Option(f"must be the id of the secret with {what}", pattern=SECRET_ID, names_secret=True)


class System:
    """The part that rotators and targets share.

    `title` is for people. `options` describe the configuration. `patience` is how long a step may answer `NotYet`.
    All steps may raise StepRefused, NotYet, and `controlplane.lib.errors.Unavailable` for what may succeed later.
    """

    title: ClassVar[str]
    options: ClassVar[Mapping[str, Option]] = {}
    patience: ClassVar[timedelta] = timedelta(minutes=15)

    def place(self, config: Mapping[str, Any]) -> str:
        """Where the copy is, for people: ``secret/data/app at vault.example.com``."""
        return self.title

    def check(self, config: Mapping[str, Any]) -> None:
        """Check what single options cannot. Raises ValueError(option, rule), such as ``("roles", "must be …")``."""

    def prepare(self, step: Step) -> Notes | None:
        """Check that the later steps can succeed, without any change."""

    def apply(self, step: Step) -> Notes | None:
        """Make the new value known to the system. Where both can be, the old one stays valid."""
        raise NotImplementedError

    def verify(self, step: Step) -> Notes | None:
        """Check, as independently of `apply` as possible, that the system has the new value."""
        raise NotImplementedError

    def commit(self, step: Step) -> Notes | None:
        """End the old value. Clients have had the overlap to take the new one."""

    def revert(self, step: Step) -> Notes | None:
        """Restore the old value, and end the new one. `apply` may have done all, a part or nothing."""
        raise NotImplementedError


class Target(System):
    """A system that holds a copy of the secret."""


class Rotator(System):
    """What makes new values. `least_overlap` is how long the old value must at least stay valid after the change."""

    def least_overlap(self, config: Mapping[str, Any]) -> timedelta:
        return timedelta()

    def make(self, step: Step) -> str:
        """A new value. Called again only if what it returned was not stored."""
        raise NotImplementedError


def config_complete(system: System, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its defaults. Raises ValueError(option, rule) for the first option that is wrong."""
    for name in config:
        if name not in system.options:
            raise ValueError(name, f"must not be given; {system.title} has {', '.join(system.options) or 'no options'}")
    complete: dict[str, Any] = {}
    for name, option in system.options.items():
        if name not in config and not option.is_required:
            complete[name] = option.default
        elif name not in config or not option.accepts(config[name]):
            raise ValueError(name, option.rule)
        else:
            complete[name] = config[name]
    system.check(complete)
    return complete
