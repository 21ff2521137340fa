"""Reading caches. All reads are consistent."""

import os
from collections.abc import Iterator, Sequence

from django.core.files.storage import storages

from apps.jobs.models import Cache
from controlplane.lib.errors import InvalidInput
from controlplane.lib.presigned import DOWNLOAD_SECONDS, Link

# With a scope of at most 300 bytes, a key fits into a key of DynamoDB.
_KEY_BYTES = 600


def cache_owner(pipeline: str) -> str:
    """The partition of a pipeline's caches."""
    return f"caches:{pipeline}"


def sending_owner(job_id: str) -> str:
    """The partition of the caches that a job has sent."""
    return f"sending:{job_id}"


def key_check(key: str, field: str) -> str:
    """The key. Raises InvalidInput for one that is too long."""
    if len(key.encode()) > _KEY_BYTES:
        raise InvalidInput.field(field, f"must have at most {_KEY_BYTES} bytes in UTF-8")
    return key


def cache_restorable(pipeline: str, scopes: Sequence[str], *, key: str, restore_keys: Sequence[str]) -> Cache | None:
    """The cache with the key, in the first scope that has one; else the newest by the longest restore key.

    One call for the key, and one for each scope if there is none with it. Raises InvalidInput.
    """
    owner = cache_owner(pipeline)
    key_check(key, "key")
    prefixes = sorted({key_check(text, f"restore_keys[{i}]") for i, text in enumerate(restore_keys)}, key=len)
    exact = {
        str(cache.entry): cache
        for cache in Cache.find_many([(owner, f"{scope}{key}") for scope in scopes])
        if cache.is_available
    }
    for scope in scopes:
        if f"{scope}{key}" in exact:
            return exact[f"{scope}{key}"]
    if not prefixes:
        return None
    common = os.path.commonprefix(prefixes)  # noqa: RUF071 — of texts, not of paths
    found = {scope: list(_beginning(owner, f"{scope}{common}")) for scope in scopes}
    for prefix in reversed(prefixes):
        for scope in scopes:
            matching = [cache for cache in found[scope] if str(cache.key).startswith(prefix)]
            if matching:
                return max(matching, key=lambda cache: str(cache.stored_at))
    return None


def caches_live(owner: str) -> list[Cache]:
    """All caches of a pipeline that can be restored, by scope and key. One query."""
    return list(_beginning(owner, None))


def cache_link(cache: Cache, *, base: str) -> Link:
    """Where an agent fetches it."""
    link: Link = storages["artifacts"].download_link(  # type: ignore[attr-defined]
        cache.stored_name, seconds=DOWNLOAD_SECONDS, base=base
    )
    return link


def _beginning(owner: str, beginning: str | None) -> Iterator[Cache]:
    condition = Cache.entry.startswith(beginning) if beginning else None
    for cache in Cache.query(owner, condition, consistent_read=True):
        if cache.is_available:
            yield cache
