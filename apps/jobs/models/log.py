"""The output of jobs, in chunks."""

from pynamodb.attributes import BinaryAttribute, NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.lib.compression import gunzip
from controlplane.nosql.record import Record, table_name

# The largest log chunk, in decompressed bytes. DynamoDB's own limit for an item is 400 KB.
CHUNK_LIMIT = 100_000


class LogChunk(Record):
    """A chunk of an attempt's log, written once. It has either `data`, or `packed` and `size`.

    Rows with a negative sequence are no chunks: in such a row each process counts what it has stored for the attempt.
    """

    class Meta(Record.Meta):
        table_name = table_name("job-logs")

    # ``job_id#attempt``
    stream = UnicodeAttribute(hash_key=True)
    sequence = NumberAttribute(range_key=True)
    # The output as it is.
    data = BinaryAttribute(legacy_encoding=False, null=True)
    # The output as the agent compressed it with gzip. An attribute of its own, so that a process of an earlier version
    # fails at such a chunk instead of showing or archiving compressed bytes.
    packed = BinaryAttribute(legacy_encoding=False, null=True)
    # The number of decompressed bytes.
    size = NumberAttribute(null=True)
    # When its first byte was printed, in seconds since 1970 with three decimals: when the control plane got it, less
    # the age that the agent sent. Chunks of earlier versions have whole seconds or none.
    at = NumberAttribute(null=True)
    # When later bytes were printed, as the agent sent it: ``283:10 400:57`` are places, each so many bytes and so many
    # milliseconds after the one before.
    times = UnicodeAttribute(null=True)
    # How many chunks a process has stored, in the row in which it counts.
    chunks = NumberAttribute(null=True)
    # Chunks expire some time after the log is archived. DynamoDB deletes expired items free of charge.
    expires_at = TTLAttribute()

    @property
    def length(self) -> int:
        """The number of bytes of `output`, without decompressing them."""
        return int(self.size) if self.packed else len(self.data or b"")

    @property
    def moments(self) -> list[tuple[int, int]]:
        """When it was printed: places in `output`, the first one 0, each with the milliseconds since 1970.

        It is empty if that is not known.
        """
        if not self.at:
            return []
        offset, at = 0, round(self.at * 1000)
        found = [(offset, at)]
        for later in (self.times or "").split():
            further, after = later.split(":")
            offset, at = offset + int(further), at + int(after)
            if offset >= self.length:
                break
            found.append((offset, at))
        return found

    @property
    def output(self) -> bytes:
        """What the job printed. Raises ValueError when the stored bytes are damaged."""
        if not self.packed:
            return self.data or b""
        output = gunzip(self.packed, limit=CHUNK_LIMIT)
        if len(output) != self.size:
            raise ValueError(f"chunk {self.sequence} of {self.stream} has {len(output)} bytes instead of {self.size}")
        return output
