"""Caches: an attempt restores one by its key and stores one under a key that none has.

A run reads the caches of its own scope (its branch), and then those of the pipeline's default branch. It writes only
those of its own scope. Each cache is written once and kept for 30 days at most. Of a pipeline's caches, those that were
not used for the longest time are deleted above the quota.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.files.storage import storages

from apps.accounts.policies import Permission, permission_require
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.jobs.models import Cache, Job
from apps.jobs.policies import attempt_require
from apps.jobs.selectors.caches import cache_owner, cache_restorable, caches_live, key_check, sending_owner
from apps.jobs.selectors.job_origin import default_scope, job_origin
from apps.jobs.services.uploads import (
    MOST_OF_AN_ATTEMPT,
    ArchiveReport,
    PartLink,
    archive_attributes,
    archive_check,
    archive_digest,
    stored_name,
    upload_abort,
    upload_begin,
    upload_finish,
    upload_links,
)
from apps.pipelines.selectors import pipeline_get
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, NotFound, Unavailable, Unprocessable
from controlplane.lib.presigned import UPLOAD_DAYS, kept_folder
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# A cache is kept for so long after it was stored.
_KEPT = timedelta(days=30)
_FOLDER = f"{kept_folder(int(_KEPT.total_seconds()))}/caches"
# When a cache was used is written at most once in this time.
_USED_TO = timedelta(hours=1)
# The most caches of a pipeline: each search for the beginning of a key may read all of them.
_MOST = 1_000
# A transaction has up to 100 operations.
_DELETED_AT_ONCE = 50
# How often deleting caches begins anew when others do the same.
_TRIES = 3


def cache_restore(
    *, agent: Actor, job_id: str, attempt: int, key: str, restore_keys: Sequence[str]
) -> tuple[Cache | None, bool]:
    """The cache for these keys, and whether it has exactly `key`; None if there is none.

    Its use is noted for the quota. Raises NotFound, Conflict with the code ``stale_attempt``, and InvalidInput.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    own, default = job_origin(job).scope, default_scope(job)
    scopes = list(dict.fromkeys(scope for scope in (own, default) if scope))
    found = cache_restorable(str(job.pipeline), scopes, key=key, restore_keys=restore_keys)
    if found is None:
        return None, False
    if clock.now() - clock.parse_timestamp(found.used_at) > _USED_TO:
        # It may have been deleted meanwhile. The agent then finds nothing at the URL.
        with suppress(ConditionFailed):
            found.update(
                actions=[Cache.used_at.set(clock.timestamp(clock.now()))],
                condition=Cache.stored_name == found.stored_name,
            )
    return found, found.key == key


def cache_save(
    *, agent: Actor, job_id: str, attempt: int, key: str, report: ArchiveReport, base: str
) -> tuple[Cache | None, list[PartLink]]:
    """Begin or continue the upload of a cache; returns it with the parts to send. None if there is one with this key.

    Repeating it changes nothing. Raises NotFound, Conflict with the code ``stale_attempt``, TooLarge, Unprocessable,
    and InvalidInput that names the field.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    origin = job_origin(job)
    place = f"{origin.scope}{key_check(key, 'key')}"
    archive_check(report, limit=min(settings.ARTIFACT_LIMIT_MB, settings.CACHE_QUOTA_MB) * 1_000_000)
    stored = Cache.find(cache_owner(str(job.pipeline)), place)
    if origin.is_from_fork or (stored is not None and stored.is_available):
        # A fork saves none: agents take it for a cache that is there already.
        return None, []
    owner, prefix = sending_owner(job_id), f"{job_id}-{attempt}-"
    entry = f"{prefix}{archive_digest(place, report.sha256, report.checksum)}"
    there = {str(row.entry): row for row in Cache.query(owner, Cache.entry.startswith(prefix), consistent_read=True)}
    cache = there.get(entry)
    if cache is None:
        if len(there) >= MOST_OF_AN_ATTEMPT:
            raise Unprocessable(
                f"The attempt has sent {len(there)} caches already, and more are not allowed.",
                code=ErrorCode.TOO_MANY_ARTIFACTS,
            )
        cache = _begin(job, entry, place, key, report)
    return cache, upload_links(report, cache, base=base)


def _begin(job: Job, entry: str, place: str, key: str, report: ArchiveReport) -> Cache:
    now = clock.now()
    where = stored_name(_FOLDER, str(job.job_id), report, entry)
    cache = Cache(
        owner=sending_owner(str(job.job_id)),
        entry=entry,
        job_id=job.job_id,
        attempt=job.attempt,
        key=key,
        place=place,
        stored_name=where,
        upload=upload_begin(report, where),
        created_at=clock.timestamp(now),
        used_at=clock.timestamp(now),
        expires_at=now + timedelta(days=UPLOAD_DAYS),
        **archive_attributes(report),
    )
    try:
        cache.save(condition=Cache.owner.does_not_exist())
    except ConditionFailed:
        # The same request arrived twice at the same time, or its first answer was lost. The entry has the same bytes.
        current = Cache.find(cache.owner, entry)
        if current is None or current.upload != cache.upload:
            upload_abort(cache)
        return current or cache
    return cache


def cache_complete(*, agent: Actor, job_id: str, attempt: int, cache_id: str) -> None:
    """Check that all bytes of the cache are stored. From then on it can be restored. Repeating it changes nothing.

    If another job has stored one with this key meanwhile, that one stays. Raises NotFound, or Conflict with the code
    ``stale_attempt`` or ``upload_incomplete``.
    """
    job = attempt_require(Job.find(job_id), agent_id=agent.id, attempt=attempt)
    is_own = cache_id.startswith(f"{job_id}-{attempt}-")
    sent = Cache.find(sending_owner(job_id), cache_id) if is_own else None
    if sent is None:
        raise NotFound("This attempt sends no such cache.", code=ErrorCode.CACHE_NOT_FOUND)
    if sent.stored_at:
        return
    try:
        upload_finish(sent)
    except Conflict:
        current = Cache.find(sent.owner, sent.entry)
        if current is not None and current.stored_at:
            # The same request, at the same time, has lost to another job's cache and deleted these bytes.
            return
        raise
    owner = cache_owner(str(job.pipeline))
    if _publish(sent, owner):
        quota_enforce(owner=owner, stored=sent, proposed=job_origin(job).is_proposed)


def _publish(sent: Cache, owner: str) -> bool:
    """Make the cache one that can be restored. False if its key has another one; the bytes are deleted then."""
    now = clock.now()
    cache = Cache(
        owner=owner,
        entry=sent.place,
        upload=None,
        stored_at=clock.timestamp(now),
        used_at=clock.timestamp(now),
        expires_at=now + _KEPT,
        **{name: getattr(sent, name) for name in _KEPT_ATTRIBUTES},
    )
    is_free = Cache.owner.does_not_exist() | (Cache.expires_at <= now)
    is_stored: list[Any] = [Cache.stored_at.set(clock.timestamp(now)), Cache.upload.remove()]
    transaction = Transaction()
    transaction.put("cache", cache, condition=is_free)
    transaction.update(
        "sent", sent, actions=is_stored, condition=Cache.owner.exists() & Cache.stored_at.does_not_exist()
    )
    try:
        transaction.commit()
    except TransactionFailed as error:
        other = error.failed.get("cache")
        if isinstance(other, Cache) and other.stored_name != sent.stored_name:
            with suppress(ConditionFailed):
                sent.update(actions=is_stored, condition=Cache.owner.exists())
            _bytes_delete(sent)
        return False
    return True


_KEPT_ATTRIBUTES = (
    *("job_id", "attempt", "size", "sha256", "checksum", "media"),
    *("stored_name", "created_at", "key", "place"),
)


def quota_enforce(*, owner: str, stored: Cache, proposed: bool) -> None:
    """Delete caches of the pipeline until they are within the quota: first those that were not used for longest.

    `stored` was just stored and is the last to go. For a pull request (`proposed`), only caches of pull requests are
    deleted, so that strangers cannot take a branch its caches.
    """
    for _ in range(_TRIES):
        live = caches_live(owner)
        too_much = sum(int(cache.size) for cache in live) - settings.CACHE_QUOTA_MB * 1_000_000
        too_many = len(live) - _MOST
        candidates = [cache for cache in live if not proposed or str(cache.place).startswith("pull:")]
        candidates.sort(key=lambda cache: (cache.stored_name == stored.stored_name, cache.used_at))
        failed = False
        for cache in candidates:
            if too_much <= 0 and too_many <= 0:
                break
            failed = not cache_remove(cache) or failed
            too_much -= int(cache.size)
            too_many -= 1
        if not failed:
            return


def cache_remove(cache: Cache) -> bool:
    """Delete a cache and its bytes. False if it is another one meanwhile, or was deleted by others."""
    try:
        cache.delete(condition=Cache.stored_name == cache.stored_name)
    except ConditionFailed:
        return False
    _bytes_delete(cache)
    return True


def caches_delete(*, actor: Actor, pipeline: str) -> int:
    """Delete all caches of the pipeline; returns their number. Raises Forbidden, and NotFound."""
    permission_require(actor, Permission.ARTIFACTS_DELETE)
    owner = cache_owner(pipeline_get(pipeline).name)
    deleted = 0
    for _ in range(_TRIES):
        caches = caches_live(owner)
        if not caches:
            break
        # If it fails, another request has deleted or replaced some of them at the same time.
        with suppress(TransactionFailed):
            remaining = iter(caches)
            while batch := list(islice(remaining, _DELETED_AT_ONCE)):
                _batch_delete(batch, actor=actor, pipeline=pipeline)
                deleted += len(batch)
    return deleted


def _batch_delete(caches: Sequence[Cache], *, actor: Actor, pipeline: str) -> None:
    transaction = Transaction()
    for number, cache in enumerate(caches):
        transaction.delete(f"cache {number}", cache, condition=Cache.stored_name == cache.stored_name)
    detail = {"caches": len(caches)}
    audit_add(transaction, actor=actor, action=Action.CACHES_DELETED, target=f"pipeline:{pipeline}", detail=detail)
    transaction.commit()
    for cache in caches:
        _bytes_delete(cache)


def _bytes_delete(cache: Cache) -> None:
    """Delete the bytes of a cache to which nothing leads any more. If that fails, they are deleted when they expire."""
    try:
        storages["artifacts"].delete(str(cache.stored_name))
    except (OSError, Unavailable):
        logger.warning("the bytes of a cache were not deleted", exc_info=True, extra={"job_id": cache.job_id})
