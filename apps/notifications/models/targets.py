"""The records of who hears of what: targets, rules, and the last result of each branch that rules concern.

All three are in one table. Targets and rules are few, so one partition holds and lists all of each.
"""

from typing import Any

from pynamodb.attributes import ListAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name

TARGETS = "targets"
RULES = "rules"
# The partition of the results of a pipeline begins with this.
RESULTS = "results#"


class Target(Record):
    """Where messages go. Its address and its secrets are encrypted: an address of Slack is one itself."""

    class Meta(Record.Meta):
        table_name = table_name("notifications")

    space = UnicodeAttribute(hash_key=True, default_for_new=TARGETS)
    target_id = UnicodeAttribute(range_key=True, attr_name="entry")
    name = UnicodeAttribute()
    # `apps.notifications.states.TargetKind`.
    kind = UnicodeAttribute()
    # The host of its address, which lists show; of an e-mail target, how many addresses it has.
    shown = UnicodeAttribute()
    # The encrypted JSON of `apps.notifications.senders.Address`.
    encrypted = UnicodeAttribute(attr_name="sealed")
    # Until when messages are also signed by the secret before this one.
    overlap_until = UnicodeAttribute(null=True)
    # Since when it has failed, and the last reason; null while it accepts what it gets.
    failing_since = UnicodeAttribute(null=True)
    problem = UnicodeAttribute(null=True)
    delivered_at = UnicodeAttribute(null=True)
    # Counts the changes by users.
    revision = NumberAttribute(default=1)
    created_at = UnicodeAttribute()
    created_by = UnicodeAttribute()
    changed_at = UnicodeAttribute()
    changed_by = UnicodeAttribute()


class Rule(Record):
    """Which target hears of what. Patterns are those of file names (``release/*``); none: all."""

    class Meta(Record.Meta):
        table_name = table_name("notifications")

    space = UnicodeAttribute(hash_key=True, default_for_new=RULES)
    rule_id = UnicodeAttribute(range_key=True, attr_name="entry")
    target_id = UnicodeAttribute()
    pipelines: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    branches: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # `apps.notifications.states.Occasion`.
    occasions: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    revision = NumberAttribute(default=1)
    created_at = UnicodeAttribute()
    created_by = UnicodeAttribute()
    changed_at = UnicodeAttribute()
    changed_by = UnicodeAttribute()


class BranchResult(Record):
    """How the newest run of a pipeline and ref has ended."""

    class Meta(Record.Meta):
        table_name = table_name("notifications")

    # ``results#<pipeline>``
    space = UnicodeAttribute(hash_key=True)
    git_ref = UnicodeAttribute(range_key=True, attr_name="entry")
    run_id = UnicodeAttribute()
    ended_at = UnicodeAttribute()
    # ``succeeded`` or ``failed``: a cancelled run is no result.
    result = UnicodeAttribute()
    expires_at = TTLAttribute()
