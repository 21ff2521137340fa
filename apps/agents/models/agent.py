"""An agent's identity, its configuration and its keys."""

from typing import Any

from pynamodb.attributes import BooleanAttribute, ListAttribute, MapAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from controlplane.nosql.record import Record, table_name


class AgentKey(MapAttribute[str, Any]):
    """One of an agent's signing keys, encrypted (associated data: agent id and key id)."""

    key_id = UnicodeAttribute()
    encrypted = UnicodeAttribute(attr_name="sealed")
    created_at = UnicodeAttribute()
    # The agent has signed with it, so no answer contains it any more.
    used = BooleanAttribute(default=False)


class AgentsByRegion(GlobalSecondaryIndex["Agent"]):
    """The agents of a region, with what lists show and never a key; rewritten only when an agent's status changes."""

    class Meta:
        index_name = "region-index"
        billing_mode = "PAY_PER_REQUEST"
        projection = IncludeProjection(
            [
                "name",
                "labels",
                "slots",
                "status",
                "hostname",
                "os",
                "arch",
                "version",
                "deployment_targets",
                "created_at",
            ]
        )

    region = UnicodeAttribute(hash_key=True)
    agent_id = UnicodeAttribute(range_key=True)


class AgentsByName(GlobalSecondaryIndex["Agent"]):
    """The agents of a region by name, whatever its case. Never rewritten, since neither changes."""

    class Meta:
        index_name = "by_name"
        billing_mode = "PAY_PER_REQUEST"
        projection = KeysOnlyProjection()

    region = UnicodeAttribute(hash_key=True)
    name_key = UnicodeAttribute(range_key=True)


class Agent(Record):
    """An agent's identity and configuration. Changes rarely; `Heartbeat` has what changes with each heartbeat."""

    class Meta(Record.Meta):
        table_name = table_name("agents")

    agent_id = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute()
    region = UnicodeAttribute()
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    slots = NumberAttribute()
    status = UnicodeAttribute()
    hostname = UnicodeAttribute(default="")
    os = UnicodeAttribute(default="")
    arch = UnicodeAttribute(default="")
    version = UnicodeAttribute(default="")
    deployment_targets: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # At most two, the newest first; the second one is accepted until the first one is 24 hours old.
    keys: ListAttribute[Any] = ListAttribute(of=AgentKey, default=list)
    # Grows with every change of what the agent fetches as its configuration.
    config_version = NumberAttribute(default=1)
    created_at = UnicodeAttribute()
    # The enrolment token with which it enrolled; null for agents of earlier versions.
    token_id = UnicodeAttribute(null=True)
    # `controlplane.nosql.listing.search_key` of the name.
    name_key = UnicodeAttribute()

    by_region = AgentsByRegion()
    by_name = AgentsByName()
