"""Who does something: what every service is told, and what the audit trail records."""

from dataclasses import dataclass, field
from typing import Literal

ActorKind = Literal["user", "token", "agent", "system"]


@dataclass(frozen=True)
class Actor:
    """A person, a person's program, an agent or the system itself, with the permissions it has now.

    `id` is stable (user id, token id, agent id), `name` is for people to read, `owner_id` is whose token it is.
    """

    kind: ActorKind
    id: str
    name: str
    permissions: frozenset[str] = field(default=frozenset(), repr=False)
    owner_id: str | None = None

    # Django REST framework asks this of whatever stands in ``request.user``.
    is_authenticated = True
    is_active = True

    @property
    def person_id(self) -> str | None:
        """The person who acts, by themselves or through their program; None for agents and the system."""
        return self.id if self.kind == "user" else self.owner_id


SYSTEM = Actor(kind="system", id="system", name="control plane")
