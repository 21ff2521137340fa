"""The actor of an operation: every service takes one, and the audit trail records it."""

from dataclasses import field
from typing import Literal

from controlplane.lib.frozen import frozen

ActorKind = Literal["user", "token", "agent", "schedule", "webhook", "system"]


@frozen
class Actor:
    """A user, an API token, an agent, a schedule, a webhook or the system, with its current permissions.

    `id` is stable (user id, token id, agent id; what is scheduled, who sends the webhook), `name` is for people,
    `owner_id` is the id of a token's user. `behind_id` is that of the user who did at a provider what a webhook says;
    it gives no permission.
    """

    kind: ActorKind
    id: str
    name: str
    permissions: frozenset[str] = field(default=frozenset(), repr=False)
    owner_id: str | None = None
    behind_id: str | None = None

    # Django REST framework reads these from ``request.user``.
    is_authenticated = True
    is_active = True

    @property
    def person_id(self) -> str | None:
        """The id of the user who acts, also by an API token; None for agents and the system."""
        return self.id if self.kind == "user" else self.owner_id

    @property
    def requester_id(self) -> str | None:
        """The id of the user who asks for something, here or by an act at a provider; None without one."""
        return self.person_id or self.behind_id


SYSTEM = Actor(kind="system", id="system", name="control plane")
