"""What the tests of pipelines share: saving one over HTTP, and the audit events about them."""

from typing import Any

from apps.audit.selectors import audit_list
from controlplane.lib import clock
from tests.clients import Client

REPOSITORY = "https://example.org/team/project.git"
YAML = "labels: [linux]\nsteps:\n  - run: make\n"


def save(client: Client, name: str = "web", **members: Any) -> Any:
    return client.put(f"/pipelines/{name}", json={"repository": REPOSITORY, "default_ref": "main", **members})


def recorded() -> list[tuple[str, str, str]]:
    """The name of the actor, the action and the target of today's audit events about pipelines, oldest first."""
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return [
        (record.actor_name, record.action, record.target)
        for record in reversed(records)
        if record.action.startswith("pipeline.")
    ]
