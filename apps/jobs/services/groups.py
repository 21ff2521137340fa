"""Slots of concurrency groups: taken in the transaction that queues a job, returned in the one that ends it.

A group has at most as many jobs with a slot as its limit. The others wait in a line, and the first in it is next. Each
change of slots or line requires the revision of the group that its decision was made from.
"""

from typing import TYPE_CHECKING, Any

from apps.jobs.models import SLOT, STATE, GroupRow, Job, Run
from apps.jobs.models.group import line_place
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

if TYPE_CHECKING:
    from apps.jobs.selectors.groups import GroupFront


def run_member(run: Run) -> Job:
    """The run as a member of its concurrency group: it has no job there, and its own id as the job's."""
    return Job(job_id=run.run_id, run_id=run.run_id, node="", group=run.group, group_since=run.group_since)


def slot_is_free(front: "GroupFront", job: Job, *, limit: int) -> bool:
    """Whether the job may take a slot now: one is free, and no other is before it in the line."""
    is_next = front.first is None or front.first.job_id == job.job_id
    return front.taken < limit and is_next


def slot_take(transaction: Transaction, job: Job, *, front: "GroupFront") -> None:
    """Give the job a slot. The transaction fails with the label "group" when the group has changed since `front`."""
    _state_change(transaction, str(job.group), front, taken=1)
    transaction.put("slot", _member(job, f"{SLOT}{job.job_id}"), _any())
    if job.group_since:
        transaction.delete("line", GroupRow(job.group, _place_of(job)))


def line_join(transaction: Transaction, job: Job, *, front: "GroupFront") -> None:
    """Put the job at the end of the line. The transaction fails with the label "group", as in `slot_take`."""
    _state_change(transaction, str(job.group), front, taken=0)
    transaction.put("line", _member(job, _place_of(job)))


def slot_return(transaction: Transaction, job: Job) -> None:
    """Take the slot of a job that has ended back."""
    actions = [GroupRow.taken.add(-1), GroupRow.revision.add(1)]
    transaction.update("group", GroupRow(job.group, STATE), actions=actions)
    transaction.delete("slot", GroupRow(job.group, f"{SLOT}{job.job_id}"), _any())


def line_leave(transaction: Transaction, job: Job) -> None:
    """Remove a job from the line that ends without a slot."""
    transaction.update("group", GroupRow(job.group, STATE), actions=[GroupRow.revision.add(1)])
    transaction.delete("line", GroupRow(job.group, _place_of(job)), _any())


def _state_change(transaction: Transaction, group: str, front: "GroupFront", *, taken: int) -> None:
    unchanged = GroupRow.revision == front.revision if front.revision else GroupRow.revision.does_not_exist()
    transaction.update(
        "group",
        GroupRow(group, STATE),
        actions=[GroupRow.taken.add(taken), GroupRow.revision.add(1)],
        condition=unchanged,
    )


def _member(job: Job, place: str) -> GroupRow:
    since = job.group_since or clock.timestamp(clock.now())
    return GroupRow(job.group, place, run_id=job.run_id, node=job.node, job_id=job.job_id, since=since)


def _place_of(job: Job) -> str:
    return line_place(str(job.group_since), str(job.job_id))


def _any() -> Any:
    """A condition that each item meets, and also a missing one."""
    return GroupRow.group.exists() | GroupRow.group.does_not_exist()
