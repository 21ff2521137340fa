"""What a queued job waits for, and what happens next. `run_jobs` says what a job of a run waits for before that."""

import math
from datetime import timedelta
from enum import StrEnum

from apps.agents.selectors import Candidates, candidates_get
from apps.jobs.label_sets import queue_position, set_id
from apps.jobs.models import Job, QueueEntry
from apps.jobs.selectors.queue import entry_avoids
from apps.jobs.states import Status
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.lib.labels import TARGET_PREFIX

# How many jobs before this one are counted.
AHEAD_AT_MOST = 100
# How coarse an estimate is: up to so many seconds, it is rounded up to so many. Later than that, there is none.
_ESTIMATES = ((600, 60), (3600, 300), (7200, 600), (86400, 3600))


class WaitingCode(StrEnum):
    """What a job waits for."""

    # An agent has room and takes it with its next poll.
    AGENTS_AVAILABLE = "agents_available"
    AGENTS_BUSY = "agents_busy"
    # The agents with room have just failed to run it, and leave it to others for two minutes.
    AGENTS_AVOIDED = "agents_avoided"
    AGENTS_DRAINING = "agents_draining"
    AGENTS_UNFIT = "agents_unfit"
    AGENTS_OFFLINE = "agents_offline"
    # Its entry has just left the queue.
    BEING_CLAIMED = "being_claimed"
    NO_AGENT_WITH_LABELS = "no_agent_with_labels"
    NO_AGENTS = "no_agents"
    # Jobs that deploy: for people, for a time, or for another deployment to the environment.
    APPROVAL = "approval"
    FROZEN = "frozen"
    WAIT_TIMER = "wait_timer"
    ENVIRONMENT_BUSY = "environment_busy"
    # Jobs of a run that are not queued yet: for others of the run, for a slot of their concurrency group, for other
    # cells of their matrix, for someone to resume their pipeline, or for a moment.
    NEEDS = "needs"
    GROUP_HELD = "group_held"
    MAX_PARALLEL = "max_parallel"
    PAUSED_PIPELINE = "paused_pipeline"
    RUN_IS_MADE = "run_is_made"
    BEING_QUEUED = "being_queued"


@frozen
class Waiting:
    """What a queued job waits for. `message` says it in a sentence.

    `since` is when the job began to wait. `jobs_ahead` counts the jobs before it among those with the same labels, up
    to `AHEAD_AT_MOST`; None if it is not known. `agents` counts the agents with all its labels, and `missing_labels`
    are the labels that no agent has. Both may lag by seconds.

    `estimated_start` is when a job whose agents are busy likely starts, by the rate at which these agents have ended
    jobs in the last hour; None if they ended none, or if that is more than a day away. Jobs with other labels that the
    same agents take do not count. `offline_since` is the last heartbeat of its agents where all of them are offline.
    """

    code: WaitingCode
    message: str
    since: str
    jobs_ahead: int | None
    agents: int
    missing_labels: tuple[str, ...] = ()
    estimated_start: str | None = None
    offline_since: str | None = None


def job_waiting(job: Job) -> Waiting | None:
    """What the job waits for; None for a job that is not queued.

    Costs one call for its place in the queue, and the calls of `candidates_get`.
    """
    if job.status != Status.QUEUED:
        return None
    entries = _entries_until(job)
    own = entries[0] if entries and entries[0].position == _position(job) else None
    candidates = candidates_get(job.labels)
    code = _code(candidates, own)
    since = (own.since if own else None) or job.created_at
    ahead = len(entries) - 1 if own else None
    begun = f"Queued {'again ' if job.attempt else ''}{span_until_now(since)} ago"
    seconds = _estimate(candidates, ahead) if code == WaitingCode.AGENTS_BUSY else None
    message = f"{begun}; {_reason(code, job, candidates, own)}{_place(code, ahead)}{_likely(seconds)}."
    return Waiting(
        code,
        message,
        since,
        ahead,
        candidates.total,
        candidates.missing,
        estimated_start=_minute_after(seconds) if seconds else None,
        offline_since=candidates.offline_since if code == WaitingCode.AGENTS_OFFLINE else None,
    )


def _position(job: Job) -> str:
    return queue_position(priority=int(job.priority), created_at=job.created_at, job_id=job.job_id)


def _entries_until(job: Job) -> list[QueueEntry]:
    """The job's entry and those before it, the nearest first."""
    until = QueueEntry.position <= _position(job)
    size = AHEAD_AT_MOST + 1
    found = QueueEntry.query(
        set_id(job.labels), until, scan_index_forward=False, limit=size, page_size=size, consistent_read=True
    )
    return list(found)


def _code(candidates: Candidates, own: QueueEntry | None) -> WaitingCode:
    if own is None:
        return WaitingCode.BEING_CLAIMED
    if not candidates.fleet:
        return WaitingCode.NO_AGENTS
    if not candidates.total:
        return WaitingCode.NO_AGENT_WITH_LABELS
    if candidates.free:
        avoided = all(entry_avoids(own, agent_id) for agent_id in candidates.free)
        return WaitingCode.AGENTS_AVOIDED if avoided else WaitingCode.AGENTS_AVAILABLE
    if candidates.busy:
        return WaitingCode.AGENTS_BUSY
    if candidates.draining:
        return WaitingCode.AGENTS_DRAINING
    return WaitingCode.AGENTS_UNFIT if candidates.unfit else WaitingCode.AGENTS_OFFLINE


def _reason(code: WaitingCode, job: Job, candidates: Candidates, own: QueueEntry | None) -> str:
    """What the job waits for, as the part of a sentence."""
    match code:
        case WaitingCode.BEING_CLAIMED:
            return "an agent is taking it now"
        case WaitingCode.NO_AGENTS:
            return "there is no agent yet: add one on the page Agents"
        case WaitingCode.NO_AGENT_WITH_LABELS:
            return f"no agent has {_labels_lacking(job, candidates)}: {_agent_to_add(candidates)}"
        case WaitingCode.AGENTS_AVAILABLE:
            return "an agent will take it within seconds"
        case WaitingCode.AGENTS_AVOIDED:
            seconds = _seconds_until(own.avoid_until) if own and own.avoid_until else 0
            return (
                f"it has just failed to run on {_agents(candidates)} that could take it, which may again in {seconds} s"
            )
        case WaitingCode.AGENTS_DRAINING:
            return f"{_state(candidates)}; resume one, or start another"
        case WaitingCode.AGENTS_UNFIT:
            return f"{_state(candidates)}: {str(candidates.unfit_reason or '').removesuffix('.')}"
        case WaitingCode.AGENTS_OFFLINE:
            return _offline(job, candidates)
        case WaitingCode.AGENTS_BUSY:
            return _busy(candidates)
        case _:
            return _state(candidates)


def _agents(candidates: Candidates) -> str:
    more = " or more" if candidates.is_partial else ""
    return f"{candidates.total}{more} agent{'s' if more or candidates.total != 1 else ''}"


def _state(candidates: Candidates) -> str:
    """How many agents could take the job, and what keeps them from it."""
    kept = {
        "busy": candidates.busy,
        "draining": candidates.draining,
        "unfit": candidates.unfit,
        "offline": candidates.offline,
    }
    words = [(word, count) for word, count in kept.items() if count]
    if len(words) > 1:
        return f"{_agents(candidates)} could take it: {', '.join(f'{count} {word}' for word, count in words)}"
    return f"{_agents(candidates)} could take it, {'but it is' if candidates.total == 1 else 'all'} {words[0][0]}"


def _busy(candidates: Candidates) -> str:
    others = {"draining": candidates.draining, "unfit": candidates.unfit, "offline": candidates.offline}
    more = "".join(f", {count} {word}" for word, count in others.items() if count)
    is_busy = "is busy" if candidates.busy == 1 else "are busy"
    return f"{candidates.busy} of {_agents(candidates)} that could take it {is_busy}{more}"


def _offline(job: Job, candidates: Candidates) -> str:
    since = candidates.offline_since
    silent = f" since {since[:16].replace('T', ' ')} UTC, {span_until_now(since)} ago" if since else ""
    if not job.labels:
        return f"{_state(candidates)}{silent}"
    more = " or more" if candidates.is_partial else ""
    labels = f"label{'s' if len(job.labels) > 1 else ''} {', '.join(job.labels)}"
    return f"agents with the {labels}: {candidates.total}{more}, offline{silent}"


def _agent_to_add(candidates: Candidates) -> str:
    """What to do so that there is an agent with the labels that are missing. Agents cannot take targets themselves."""
    targets = [name.removeprefix(TARGET_PREFIX) for name in candidates.missing if name.startswith(TARGET_PREFIX)]
    if targets and len(targets) == len(candidates.missing):
        return f"an admin can give an agent the deployment target {', '.join(targets)}"
    return "start an agent that has"


def _labels_lacking(job: Job, candidates: Candidates) -> str:
    """The labels that no agent has; or, if each of the job's labels is on some agent, all of them."""
    missing = candidates.missing
    labels = f"label{'s' if len(missing or job.labels) != 1 else ''} {', '.join(missing or job.labels)}"
    if missing:
        return labels
    having = ", ".join(f"{label}: {agents}" for label, agents in candidates.by_label)
    return f"all of the {labels} (agents with {having})"


def _place(code: WaitingCode, ahead: int | None) -> str:
    """How many jobs come before this one, where agents take any."""
    if code == WaitingCode.AGENTS_BUSY and ahead is not None:
        return f"; position {'over ' if ahead == AHEAD_AT_MOST else ''}{min(ahead + 1, AHEAD_AT_MOST)} in the queue"
    if not ahead or code != WaitingCode.AGENTS_AVAILABLE:
        return ""
    more = "more than " if ahead == AHEAD_AT_MOST else ""
    return f", after {more}{ahead} job{'s' if ahead != 1 else ''} before it"


def _estimate(candidates: Candidates, ahead: int | None) -> int | None:
    """In how many seconds the job likely starts, rounded up; None if that is not known."""
    if ahead is None or ahead == AHEAD_AT_MOST or not candidates.hourly_ends:
        return None
    seconds = (ahead + 1) * 3600 / candidates.hourly_ends
    step = next((step for most, step in _ESTIMATES if seconds <= most), None)
    return step and math.ceil(seconds / step) * step


def _likely(seconds: int | None) -> str:
    if not seconds:
        return ""
    return f", likely to start in about {f'{seconds // 60} min' if seconds <= 7200 else f'{seconds // 3600} h'}"


def _minute_after(seconds: int) -> str:
    return clock.timestamp((clock.now() + timedelta(seconds=seconds)).replace(second=0, microsecond=0))


def span_until_now(since: str | None) -> str:
    """The time since then, in its largest unit."""
    seconds = int(max(0.0, (clock.now() - clock.parse_timestamp(since)).total_seconds())) if since else 0
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _seconds_until(moment: str) -> int:
    return max(0, int((clock.parse_timestamp(moment) - clock.now()).total_seconds()))
