"""Reading environments: what each asks of deployments, which wait for it, and what is live in it. All consistent."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from apps.accounts.policies import ROLES
from apps.accounts.selectors import user_by_email, users_find
from apps.jobs.models import LIVE, SPACE, WAITS, Environment, LiveDeployment, WaitingDeployment
from apps.pipelines.definitions import ENVIRONMENT_NAME
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, NotFound
from controlplane.lib.freezes import Freeze
from controlplane.lib.labels import targets_required

__all__ = [
    "Environment",
    "EnvironmentView",
    "LiveDeployment",
    "approver_lines",
    "approvers_read",
    "environment_find",
    "environment_freezes",
    "environment_get",
    "environment_list",
    "environment_live",
    "environment_view",
    "target_problem",
]


@dataclass
class EnvironmentView:
    """An environment, its deployments that wait, the oldest first, and what each pipeline has live in it."""

    environment: Environment
    waiting: list[WaitingDeployment] = field(default_factory=list)
    live: list[LiveDeployment] = field(default_factory=list)

    @property
    def in_progress(self) -> str | None:
        """The id of the deployment that is in progress."""
        return next(iter(sorted(self.environment.holders or ())), None)


def environment_find(name: str) -> Environment | None:
    """The environment, also a deleted one, or None."""
    found = Environment.find(SPACE, name) if ENVIRONMENT_NAME.fullmatch(name) else None
    return found if found is not None and found.created_at else None


def environment_get(name: str) -> Environment:
    """The environment. Raises NotFound with the code ``environment_not_found``, also for a deleted one."""
    found = environment_find(name)
    if found is None or found.deleted_at:
        raise NotFound(f"There is no environment “{name[:60]}”.", code=ErrorCode.ENVIRONMENT_NOT_FOUND)
    return found


def environment_view(name: str) -> EnvironmentView | None:
    """The environment, also a deleted one, with what waits and what is live, or None. One read and two queries."""
    environment = environment_find(name)
    if environment is None:
        return None
    within = f"{name}#"
    waiting = WaitingDeployment.query(WAITS, WaitingDeployment.place.startswith(within), consistent_read=True)
    live = LiveDeployment.query(LIVE, LiveDeployment.place.startswith(within), consistent_read=True)
    return EnvironmentView(environment, list(waiting), list(live))


def environment_live(name: str, pipeline: str) -> LiveDeployment | None:
    """What this pipeline has live in the environment. One read."""
    return LiveDeployment.find(LIVE, f"{name}#{pipeline}")


def approvers_read(lines: Iterable[str], *, field: str) -> tuple[list[str], list[str]]:
    """The roles, and the ids of the users, that people have written: a role or an e-mail address in a line.

    Two reads for each address. Raises InvalidInput for a line that is neither.
    """
    roles, ids = [], []
    for line in map(str.strip, lines):
        user = user_by_email(line) if "@" in line else None
        if user is not None:
            ids.append(str(user.user_id))
        elif line in ROLES:
            roles.append(line)
        elif line:
            raise InvalidInput.field(field, f"must be roles and e-mail addresses of users; {line[:100]} is neither")
    return roles, ids


def approver_lines(environment: Environment) -> list[str]:
    """Who may approve, in lines that `approvers_read` reads. Users who are gone are left out. At most one read."""
    people = users_find({*environment.approver_ids}) if environment.approver_ids else {}
    emails = [str(people[user_id].email) for user_id in environment.approver_ids if user_id in people]
    return [*map(str, environment.approver_roles), *emails]


def target_problem(labels: Collection[str], environment: str | None) -> str | None:
    """Why a job whose file has these labels may not run, as a sentence, or None. One read for each other target of it.

    A job that asks for the agents of an environment by a label, and does not say that it deploys there, would pass by
    the gates of that. The labels of a pipeline are for all of its jobs, and operators give them.
    """
    for target in targets_required(labels):
        found = environment_find(target) if target != environment else None
        if found is not None and (found.approvals or found.wait_seconds or found.freezes or found.allowed_refs):
            return (
                f"The label deploy:{target} is for jobs that deploy to {target}, which has gates: "
                f"write `environment: {target}` in the job."
            )
    return None


def environment_list() -> list[EnvironmentView]:
    """All environments by name: there is a limit to them. Three queries."""
    found = (one for one in Environment.query(SPACE, consistent_read=True) if one.created_at and not one.deleted_at)
    views = {one.name: EnvironmentView(one) for one in found}
    # A name has no "#".
    for waiting in WaitingDeployment.query(WAITS, consistent_read=True) if views else ():
        view = views.get(str(waiting.place).partition("#")[0])
        if view is not None:
            view.waiting.append(waiting)
    for live in LiveDeployment.query(LIVE, consistent_read=True) if views else ():
        view = views.get(str(live.environment))
        if view is not None:
            view.live.append(live)
    return list(views.values())


def environment_freezes(environment: Environment) -> list[Freeze]:
    """The windows of time in which it takes no deployment."""
    return [Freeze.from_dict(members) for members in environment.freezes or ()]
