"""Who may do what to a pipeline."""

from apps.accounts.policies import Permission, permission_require
from controlplane.lib.actor import Actor


def pipeline_save_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may create and change pipelines."""
    permission_require(actor, Permission.PIPELINES_SAVE)


def pipeline_delete_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may delete pipelines."""
    permission_require(actor, Permission.PIPELINES_DELETE)


def schedule_save_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may create and change schedules: who does starts runs later."""
    permission_require(actor, Permission.PIPELINES_SAVE)
    permission_require(actor, Permission.JOBS_CREATE)


def schedule_pause_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may pause schedules."""
    permission_require(actor, Permission.PIPELINES_SAVE)


def schedule_delete_require(actor: Actor) -> None:
    """Raises Forbidden unless the actor may delete schedules."""
    permission_require(actor, Permission.PIPELINES_DELETE)
