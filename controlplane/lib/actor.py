"""Who does something: what every service is told, and what the audit trail records."""

from dataclasses import dataclass, field
from typing import Literal

ActorKind = Literal["user", "token", "agent", "system"]


@dataclass(frozen=True)
class Actor:
    """A person, a person's program, an agent or the system itself, with the permissions it has now.

    `id` is stable (user id, token id, agent id), `name` is for people to read.
    """

    kind: ActorKind
    id: str
    name: str
    permissions: frozenset[str] = field(default=frozenset(), repr=False)

    # Django REST framework asks this of whatever stands in ``request.user``.
    is_authenticated = True
    is_active = True


SYSTEM = Actor(kind="system", id="system", name="control plane")
