"""The record of a check that a provider shows at a commit, as we sent it last."""

from pynamodb.attributes import BooleanAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.nosql.record import Record, table_name


class SentCheck(Record):
    """A check of a commit. All checks of a commit are one partition, so that one query says what it shows."""

    class Meta(Record.Meta):
        table_name = table_name("source-checks")

    # ``<connection>#<repository>#<commit>``
    place = UnicodeAttribute(hash_key=True)
    # Ours: a run or a job.
    external_id = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    run_id = UnicodeAttribute()
    # The state that was sent last, and for the how many-th time the check had begun; null before anything was sent.
    state = UnicodeAttribute(null=True)
    turn = NumberAttribute(null=True)
    has_ended = BooleanAttribute(null=True)
    # The provider's id, or another mark by which its module knows the check again.
    provider_id = UnicodeAttribute(null=True)
    # A call is under way. If it is still noted later, the answer may be lost.
    sending = BooleanAttribute(null=True)
    # Why the provider does not accept it, at least for now.
    problem = UnicodeAttribute(null=True)
    # Counts the writes.
    revision = NumberAttribute(default=0)
    expires_at = TTLAttribute()

    def shows(self, state: str, turn: int) -> bool:
        """Whether this state of this turn was sent last, and arrived."""
        return self.state == state and self.turn == turn and not self.sending
