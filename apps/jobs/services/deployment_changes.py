"""What a deployment changes: the commits between it and what was live before, from the provider if there is one."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from django.core.cache import cache

from apps.jobs.models import Deployment
from apps.jobs.selectors.environments import environment_live
from apps.jobs.states import DeploymentStatus
from apps.pipelines.selectors import pipeline_get
from controlplane.lib.errors import ApplicationError
from controlplane.lib.frozen import frozen

if TYPE_CHECKING:
    from apps.sources.providers.interface import Comparison

logger = logging.getLogger(__name__)
# How many commits are shown.
SHOWN = 20
_KEPT_SECONDS = 3600


@frozen
class Changes:
    """The commits of a deployment since the one before. `commits` is None if the provider does not say them.

    Each commit is ``{"commit", "author", "message", "url"}``, the newest first. With `is_back`, it takes commits back.
    """

    before: str | None
    after: str | None
    count: int | None = None
    commits: Sequence[Mapping[str, str]] | None = None
    is_back: bool = False
    url: str | None = None


def deployment_changes(deployment: Deployment) -> Changes:
    """What the deployment changes, or would change. Up to three reads, and a request to the provider.

    An answer is kept by the process for an hour. Where the provider does not answer, or there is none, the two commits
    are all that is known.
    """
    before, after = _before(deployment), deployment.commit
    known = Changes(before, after)
    if not before or not after or before == after:
        return known
    key = f"deployment-changes:{deployment.pipeline}:{before}:{after}"
    kept: Changes | None = cache.get(key)
    if kept is not None:
        return kept
    try:
        found = _compared(str(deployment.pipeline), str(before), str(after))
    except ApplicationError as error:
        logger.info("the provider does not compare: %s", error.message)
        return known
    if found is None:
        return known
    commits = list(found.commits)[-SHOWN:][::-1] if found.commits is not None else None
    is_back = not found.ahead_by and bool(found.behind_by)
    changes = Changes(before, after, found.behind_by if is_back else found.ahead_by, commits, is_back, found.url)
    cache.set(key, changes, _KEPT_SECONDS)
    return changes


def _before(deployment: Deployment) -> str | None:
    """The commit that was live when it began; of one that waits, the commit that is live now."""
    if deployment.status != DeploymentStatus.WAITING:
        return deployment.before_commit
    live = environment_live(str(deployment.environment), str(deployment.pipeline))
    return live.commit if live else None


def _compared(pipeline: str, before: str, after: str) -> "Comparison | None":
    """What the provider says, or None if the pipeline has none that compares. Raises ApplicationError."""
    source = pipeline_get(pipeline)
    if not source.source or not source.source_repository:
        return None
    # Most pages need no provider.
    from apps.sources.providers.interface import provider_has, provider_of
    from apps.sources.selectors import connection_get

    connection = connection_get(str(source.source))
    name = str(connection.provider)
    if not provider_has(name, "compare"):
        return None
    return provider_of(name).compare(connection, str(source.source_repository), before, after)
