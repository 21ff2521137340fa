"""What is stored of jobs besides their logs: artifacts and caches. The bytes themselves are in object storage."""

from pynamodb.attributes import NumberAttribute, TTLAttribute, UnicodeAttribute

from controlplane.lib import clock
from controlplane.nosql.record import Record, table_name


class Archive(Record):
    """The common attributes of the records in this table: an archive, and where its bytes are."""

    class Meta(Record.Meta):
        table_name = table_name("artifacts")

    owner = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)
    job_id = UnicodeAttribute()
    attempt = NumberAttribute()
    size = NumberAttribute()
    # The SHA-256 of the whole archive, as the agent said, in hexadecimal digits. Who fetches the archive checks it.
    sha256 = UnicodeAttribute()
    # What object storage must have of it: `controlplane.lib.presigned.checksum`.
    checksum = UnicodeAttribute()
    media = UnicodeAttribute()
    # The name of the bytes in object storage.
    stored_name = UnicodeAttribute()
    # The upload in parts, until it is complete.
    upload = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    # When the upload was complete. Before that, the archive is in no list.
    stored_at = UnicodeAttribute(null=True)
    # DynamoDB deletes the item some time after this moment, so readers compare it, too.
    expires_at = TTLAttribute()

    @property
    def is_available(self) -> bool:
        """Whether it can be fetched: it is stored and has not expired."""
        return bool(self.stored_at) and self.expires_at > clock.now()


class Artifact(Archive):
    """An artifact of an attempt, in the partition of its run. The entry begins with job and attempt."""

    class Meta(Archive.Meta):
        pass

    name = UnicodeAttribute()
    # The name of the job in its run.
    node = UnicodeAttribute()
    pipeline = UnicodeAttribute()
    # How many files the archive has. The listing in object storage may name fewer.
    files = NumberAttribute()
    # For how many seconds it is kept once it is stored.
    expire_in = NumberAttribute()
    # When a user deleted it. Its bytes are deleted then, and the item follows.
    deleted_at = UnicodeAttribute(null=True)

    @property
    def artifact_id(self) -> str:
        """The keys of the item, so that an artifact is found by its id in one read."""
        return f"{self.owner}-{self.entry}"

    @property
    def is_available(self) -> bool:
        return super().is_available and not self.deleted_at


class Cache(Archive):
    """A cache in the partition of its pipeline, where the entry is its scope and key; and, for some days, what the job
    sent of it, in the partition of the job.
    """

    class Meta(Archive.Meta):
        pass

    key = UnicodeAttribute()
    # Its entry in the partition of the pipeline.
    place = UnicodeAttribute()
    # To the hour.
    used_at = UnicodeAttribute()
