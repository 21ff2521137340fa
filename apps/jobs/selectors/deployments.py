"""Reading deployments. One is read consistently; lists may lag by moments."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.accounts.selectors import users_find
from apps.jobs.models import Deployment, Environment
from apps.jobs.selectors.environments import environment_find
from apps.jobs.selectors.gates import Gate, gate_user_ids, gates, gates_of
from apps.jobs.selectors.runs import run_view
from apps.jobs.states import DeploymentStatus
from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.nosql.listing import Listing, place_decode

__all__ = [
    "Deployment",
    "DeploymentPage",
    "deployment_find",
    "deployment_gates",
    "deployment_get",
    "deployment_is_last",
    "deployment_last",
    "deployment_list",
    "deployment_to_put_back",
    "deployments_gates",
    "deployments_of_run",
]

# No deployment is older.
_FIRST = (2026, 11)
_LOOK_AT_MOST = 1_000
_LOOK = 25
# In how many months the last deployment is looked for, and among how many.
_LAST_MONTHS, _LAST_AMONG = 3, 50
# How many deployments of the same commit are passed over to find another one.
_BACK_AT_MOST = 20


def _months() -> list[str]:
    """The months in which there may be deployments, as ``2026-11``, the newest first."""
    now = clock.now()
    months = range(_FIRST[0] * 12 + _FIRST[1] - 1, now.year * 12 + now.month)
    return [f"{month // 12}-{month % 12 + 1:02}" for month in reversed(months)]


def _environment_partition(asked: Mapping[str, Any]) -> list[str] | None:
    return [asked["environment"]] if "environment" in asked else None


BY_ENVIRONMENT = Listing(Deployment, Deployment.by_environment, _environment_partition, descending=True, look=_LOOK)
BY_MONTH = Listing(Deployment, Deployment.by_month, lambda _asked: _months(), descending=True, look=_LOOK)


@dataclass(frozen=True)
class DeploymentPage:
    """A page of deployments, newest first."""

    deployments: list[Deployment]
    next_cursor: str | None


def deployment_find(deployment_id: str) -> Deployment | None:
    """The deployment with this id, or None. One read."""
    return Deployment.find(deployment_id)


def deployment_get(deployment_id: str) -> Deployment:
    """The deployment with this id. One read. Raises NotFound with the code ``deployment_not_found``."""
    found = deployment_find(deployment_id)
    if found is None:
        raise NotFound("There is no such deployment.", code=ErrorCode.DEPLOYMENT_NOT_FOUND)
    return found


def deployment_is_last(deployment_id: str) -> bool:
    """Whether no other deployment to its environment has begun since this one. Two reads."""
    deployment = deployment_find(deployment_id)
    environment = environment_find(str(deployment.environment)) if deployment else None
    return deployment is not None and environment is not None and environment.turn == deployment.turn


def deployment_last() -> Deployment | None:
    """The newest deployment that has begun, by an index; None if there is none in this month and the two before it.

    Two calls if there are any in this month, and one more for each month without.
    """
    begun = (DeploymentStatus.IN_PROGRESS, DeploymentStatus.COMPLETED, DeploymentStatus.FAILED)
    page = BY_MONTH.page(
        _months()[:_LAST_MONTHS], limit=1, keep=lambda one: one.status in begun, look_at_most=_LAST_AMONG
    )
    return page.records[0] if page.records else None


def deployment_list(*, limit: int = 20, cursor: str | None = None, **filters: Any) -> DeploymentPage:
    """A page of deployments, newest first; `filters` are environment, pipeline and status.

    Raises InvalidInput (field "cursor").
    """
    asked = {name: value for name, value in filters.items() if value is not None}
    scope = "deployments:" + ":".join(f"{name}={value}" for name, value in sorted(asked.items()))
    listing = BY_ENVIRONMENT if "environment" in asked else BY_MONTH
    page = listing.page(
        listing.partitions(asked) or (),
        limit=limit,
        keep=lambda one: all(getattr(one, name) == value for name, value in asked.items()),
        start=place_decode(scope, cursor),
        look_at_most=_LOOK_AT_MOST,
    )
    return DeploymentPage(page.records, page.next_cursor(scope))


def deployments_of_run(run_id: str) -> list[Deployment]:
    """The deployments of the jobs that the run has now, consistently. One query, and a call for each 100 of them.

    Raises NotFound.
    """
    nodes = run_view(run_id).nodes.values()
    return Deployment.find_many(str(node.job_id) for node in nodes if node.environment)


def deployment_gates(deployment: Deployment) -> tuple[Environment | None, list[Gate]]:
    """The environment of the deployment and, if it waits, its gates as they are now. Up to two reads."""
    environment = environment_find(str(deployment.environment))
    if environment is None or deployment.status != DeploymentStatus.WAITING:
        return environment, []
    return environment, gates_of(environment, deployment)


def deployments_gates(deployment_ids: Iterable[str]) -> list[tuple[Deployment, list[Gate]]]:
    """Those of the deployments that wait, each with its gates as they are now.

    One call for each 100 of them, one for each environment, and one for the people who may approve or have.
    """
    waiting = [one for one in Deployment.find_many(deployment_ids) if one.status == DeploymentStatus.WAITING]
    environments = {name: environment_find(name) for name in {str(one.environment) for one in waiting}}
    there = [(one, found) for one in waiting if (found := environments[str(one.environment)]) is not None]
    asked = {user_id for one, found in there for user_id in gate_user_ids(found, one)}
    people, now = users_find(asked) if asked else {}, clock.now()
    return [(one, gates(found, one, people=people, now=now)) for one, found in there]


def deployment_to_put_back(deployment: Deployment) -> Deployment | None:
    """The last good deployment of the pipeline to the environment before this one, of another commit; None if none is.

    One read for each deployment of the same commit in between.
    """
    before_id, commit = deployment.before_id, deployment.commit
    if deployment.status == DeploymentStatus.WAITING:
        return None
    for _ in range(_BACK_AT_MOST):
        found = Deployment.find(str(before_id)) if before_id else None
        if found is None or found.commit != commit:
            return found
        before_id = found.before_id
    return None
