"""The records of concurrency groups: how many slots are taken, who has them, and who waits for one, in order."""

from pynamodb.attributes import NumberAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name

# The range keys of a group's partition, or how they begin, in the order of the keys: one query reads the group and the
# head of its line.
STATE = "group"
LINE = "line#"
SLOT = "slot#"


class GroupRow(Record):
    """The state of a group, or one of its members: a job that waits in its line, or that has a slot."""

    class Meta(Record.Meta):
        table_name = table_name("groups")

    # The pipeline and the name of the group: ``app/production``.
    group = UnicodeAttribute(hash_key=True)
    # ``group``, ``line#<since>#<job id>`` or ``slot#<job id>``.
    place = UnicodeAttribute(range_key=True)

    # Of the state: how many slots are taken, and a number that changes with each change of slots and line.
    taken = NumberAttribute(null=True)
    revision = NumberAttribute(null=True)

    # Of a member.
    run_id = UnicodeAttribute(null=True)
    node = UnicodeAttribute(null=True)
    job_id = UnicodeAttribute(null=True)
    since = UnicodeAttribute(null=True)


def group_key(pipeline: str, name: str) -> str:
    """The key of a group. Groups of two pipelines never meet."""
    return f"{pipeline}/{name}"


def line_place(since: str, job_id: str) -> str:
    """The place of a job in the line of a group, in the order of the times at which jobs had to wait."""
    return f"{LINE}{since}#{job_id}"
