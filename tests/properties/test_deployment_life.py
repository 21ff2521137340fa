"""Approvals, freezes and wait timers, and whatever happens meanwhile: no step runs unless all gates are open.

A state machine acts on the real services and the emulator, with a clock that it sets. Whether the gates are open is
said here once more, from what users did and from the clock alone: freezes by walking through the minutes on the clocks
of their zone, across both changes of daylight saving.
"""

import itertools
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from apps.accounts.models import User
from apps.agents.states import MAX_SLOTS
from apps.jobs.models import Deployment, Job
from apps.jobs.selectors.environments import environment_view
from apps.jobs.services import attempt_expire, job_cancel, job_create, job_retry, runs_advance
from apps.jobs.services.approvals import deployment_approve, deployment_reject
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.environments import environment_change, environment_create
from apps.jobs.services.queue import entry_of
from apps.jobs.states import DeploymentStatus, Status
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError
from controlplane.lib.freezes import Freeze
from controlplane.lib.ids import new_id
from tests.conftest import ADMIN
from tests.jobs.deployments import DEPLOYS, acting, deployer, deployment_of
from tests.properties.consistency import Everything, tables_empty

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
# Two days before clocks change, in spring and in autumn.
BEGINNINGS = ("2027-03-26T12:00+00:00", "2027-10-29T12:00+00:00")
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
PEOPLE = ("ada", "bob", "eve")
WHO = st.sampled_from(PEOPLE)
MINUTES = st.sampled_from([1, 5, 12, 60, 300, 1440])
# What happens, and how often.
HAPPENINGS = [
    *["a_run_comes_to_its_deployment", "a_job_ends", "an_agent_takes_a_job", "an_admin_changes_the_environment"] * 2,
    *["time_passes_and_the_sweep_runs", "a_person_approves"] * 4,
    *["a_person_rejects", "a_person_cancels_the_job", "a_person_runs_the_job_again", "a_role_is_changed"],
]
Draw = Callable[[Any], Any]


@st.composite
def freezes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to two windows around the changes of the clocks."""
    made = []
    for _ in range(draw(st.integers(0, 2))):
        hours = st.tuples(st.integers(0, 23), st.sampled_from([0, 30]))
        (first, half), (last, other) = draw(hours), draw(hours)
        begin, end = draw(st.sampled_from(DAYS)), draw(st.sampled_from(DAYS))
        made.append(
            {
                "from": f"{begin} {first:02}:{half:02}",
                "until": f"{end} {last:02}:{other:02}",
                "zone": draw(st.sampled_from([BERLIN, NEW_YORK, "UTC"])),
            }
        )
    return [one for one in made if one["from"] != one["until"]]


@dataclass
class Gates:
    """What the environment asks for, as the example has set it."""

    approvals: int = 0
    wait: int = 0
    freezes: list[dict[str, Any]] = field(default_factory=list)
    not_requester: bool = False


@st.composite
def gated(draw: st.DrawFn) -> Gates:
    """Some gates; often a few only, so that deployments begin."""
    approvals = draw(st.sampled_from([0, 1, 1, 2]))
    return Gates(
        approvals,
        draw(st.sampled_from([0, 0, 600])),
        draw(freezes()) if draw(st.sampled_from([False, False, True])) else [],
        approvals > 0 and draw(st.booleans()),
    )


def is_frozen(freeze: dict[str, Any], moment: datetime) -> bool:
    """Whether the moment is in the window: of its border times, the last one before it was a beginning.

    A border is a minute at which the clock shows its time, or passes over it when it is put forward. Of one that comes
    twice, the first beginning and the last end count.
    """
    zone = ZoneInfo(freeze["zone"])
    borders: list[tuple[datetime, bool]] = []
    start = (moment - timedelta(days=8)).replace(minute=0, second=0, microsecond=0)
    halves = [start + timedelta(minutes=30 * number) for number in range(2 * 24 * 9)]
    for name, is_begin in (("from", True), ("until", False)):
        day, _, at = freeze[name].partition(" ")
        hour, minute = map(int, at.split(":"))
        found: dict[Any, datetime] = {}
        for before, now in itertools.pairwise(halves):
            shown, earlier = now.astimezone(zone), before.astimezone(zone)
            naive, past = shown.replace(tzinfo=None), earlier.replace(tzinfo=None)
            wanted = datetime.combine(naive.date(), datetime.min.time()) + timedelta(hours=hour, minutes=minute)
            if DAYS[naive.weekday()] != day:
                continue
            if naive == wanted or (past < wanted < naive and naive - past > timedelta(minutes=30)):
                found[naive.date()] = min(found.get(naive.date(), now), now) if is_begin else now
        borders += [(border, is_begin) for border in found.values()]
    passed = [border for border in borders if border[0] <= moment]
    # A window whose borders are both passed over at one moment is empty.
    return max(passed, key=lambda border: (border[0], not border[1]), default=(moment, False))[1]


class DeploymentLife(RuleBasedStateMachine):
    """One environment, three people, an agent, and everything that may happen."""

    @initialize(beginning=st.sampled_from(BEGINNINGS), gates=gated())
    def begin(self, beginning: str, gates: Gates) -> None:
        tables_empty()
        cache.clear()
        self.stack = ExitStack()
        self.stack.enter_context(clock.shifted(datetime.fromisoformat(beginning) - clock.now()))
        self.worker = deployer()
        environment_create(actor=ADMIN, name="production")
        self.people = {name: self._person(name) for name in PEOPLE}
        self.roles = dict.fromkeys(PEOPLE, "operator")
        self.runs: list[str] = []
        self.running: list[Job] = []
        self.approved: dict[str, set[str]] = {}
        # Who started each run, and who asked for each deployment: these, and who ran the job again.
        self.starters: dict[str, set[str]] = {}
        self.asked: dict[str, set[str]] = {}
        self._environment_set(gates)

    def _person(self, name: str) -> User:
        user = User(
            f"01ka{name}0000000000000000000", email=f"{name}@example.com", name=name, role="operator", password="!"
        )
        user.created_at, user.name_key = "2026-01-01T00:00:00.000000Z", name
        user.save()
        return user

    # --- what happens ----------------------------------------------------------------------------------------------

    # One rule with weights: of several, each example would do without some.
    @rule(data=st.data(), what=st.sampled_from(HAPPENINGS), polls=st.booleans())
    def something_happens(self, data: st.DataObject, what: str, polls: bool) -> None:
        getattr(self, what)(data.draw)
        if polls:
            self.an_agent_takes_a_job(data.draw)

    def a_run_comes_to_its_deployment(self, draw: Draw) -> None:
        if len(self.runs) >= 4:
            return
        who = draw(WHO)
        is_operator = self.roles[who] == "operator"
        created = job_create(actor=acting(self.people[who]) if is_operator else ADMIN, pipeline="graph")
        _entry_claim(entry_of(created, attempt=1), agent=self.worker.agent, slots=MAX_SLOTS)
        job = self.worker.start(created.job_id)
        self.worker.report(job, DEPLOYS)
        self.worker.finish(job)
        self.runs.append(str(job.run_id))
        self.starters[self.runs[-1]] = {who} if is_operator else set()
        self.asked[self._deployment(self.runs[-1])] = self.starters[self.runs[-1]]

    def time_passes_and_the_sweep_runs(self, draw: Draw) -> None:
        self.stack.enter_context(clock.shifted(timedelta(minutes=draw(MINUTES))))
        runs_advance(seconds=60)

    def an_admin_changes_the_environment(self, draw: Draw) -> None:
        self._environment_set(draw(gated()))

    def _environment_set(self, gates: Gates) -> None:
        environment_change(
            actor=ADMIN,
            name="production",
            approvals=gates.approvals,
            approver_roles=["operator"],
            wait_seconds=gates.wait,
            freezes=gates.freezes,
            requester_may_not_approve=gates.not_requester,
        )
        self.gates = gates

    def a_person_approves(self, draw: Draw) -> None:
        who = draw(WHO)
        for run in self.runs:
            deployment_id = self._deployment(run)
            with suppress(ApplicationError):
                deployment_approve(actor=acting(self.people[who]), deployment_id=deployment_id)
                self.approved.setdefault(deployment_id, set()).add(who)

    def a_person_rejects(self, draw: Draw) -> None:
        with suppress(ApplicationError):
            deployment_reject(actor=acting(self.people[draw(WHO)]), deployment_id=self._picked(draw))

    def a_person_cancels_the_job(self, draw: Draw) -> None:
        deployment_id = self._picked(draw)
        if deployment_id not in {job.job_id for job in self.running}:
            with suppress(ApplicationError):
                job_cancel(actor=ADMIN, job_id=deployment_id)

    def a_person_runs_the_job_again(self, draw: Draw) -> None:
        who = draw(WHO)
        for run in self.runs:
            deployment_id = self._deployment(run)
            with suppress(ApplicationError):
                job_retry(actor=acting(self.people[who]), job_id=deployment_id)
                self.asked[self._deployment(run)] = self.starters[run] | {who}

    def a_role_is_changed(self, draw: Draw) -> None:
        who, role = draw(WHO), draw(st.sampled_from(["operator", "viewer"]))
        self.people[who].update(actions=[User.role.set(role)])
        self.roles[who] = role

    def an_agent_takes_a_job(self, _draw: Draw | None) -> None:
        for job_id in self.worker.claim():
            with suppress(ApplicationError):
                job = self.worker.start(job_id)
                self.running.append(job)
                assert self._may_run(job), "a step runs although a gate is closed"

    def a_job_ends(self, draw: Draw) -> None:
        if not self.running:
            return
        job, agent, end = self.running.pop(), self.worker.agent, draw(st.sampled_from(["good", "bad", "lost"]))
        if end == "lost":
            attempt = int(job.attempt)
            attempt_expire(agent_id=agent.id, job_id=job.job_id, attempt=attempt, heartbeat_at=None, reason="silence")
        else:
            self.worker.finish(job, exit_code=int(end == "bad"))

    # --- what must be true -----------------------------------------------------------------------------------------

    def _deployment(self, run: str) -> str:
        return str(deployment_of(run).deployment_id)

    def _picked(self, draw: Draw) -> str:
        """The id of the deployment of one of the runs, or one that there is not."""
        return self._deployment(draw(st.sampled_from(self.runs))) if self.runs else new_id()

    def _may_run(self, job: Job) -> bool:
        now = clock.now()
        barred = self.asked[str(job.job_id)] if self.gates.not_requester else set()
        approved = self.approved.get(str(job.job_id), set()) - barred
        counted = [who for who in approved if self.roles[who] == "operator"]
        begun = clock.parse_timestamp(Deployment.get(job.job_id).created_at)
        frozen = [window for window in self.gates.freezes if is_frozen(window, now)]
        return len(counted) >= self.gates.approvals and now - begun >= timedelta(seconds=self.gates.wait) and not frozen

    @invariant()
    def a_deployment_is_alone_and_the_records_agree(self) -> None:
        if not hasattr(self, "runs"):
            return
        view = environment_view("production")
        assert view is not None
        jobs = {str(job.job_id): job for job in Job.scan()}
        deployments = list(Deployment.scan())
        going = {str(one.deployment_id) for one in deployments if one.status == DeploymentStatus.IN_PROGRESS}
        assert len(going) <= 1
        assert (view.environment.holders or set()) == going
        waiting = {str(one.deployment_id) for one in deployments if one.status == DeploymentStatus.WAITING}
        assert {str(one.deployment_id) for one in view.waiting} == waiting
        for deployment in deployments:
            status = jobs[str(deployment.deployment_id)].status
            assert (status == Status.WAITING) == (deployment.status == DeploymentStatus.WAITING)
            # Never by itself a second time.
            assert jobs[str(deployment.deployment_id)].lost_attempts <= 1
        assert Everything.read().inconsistencies() == []

    def teardown(self) -> None:
        """Once all gates are open, each deployment that waits has its turn, by the sweep alone."""
        if not hasattr(self, "runs"):
            return
        with self.stack:
            self._environment_set(Gates())
            for _ in range(10):
                self.stack.enter_context(clock.shifted(timedelta(minutes=11)))
                runs_advance(seconds=60)
                while self.running:
                    self.worker.finish(self.running.pop())
                self.an_agent_takes_a_job(None)
            assert not [one for one in Deployment.scan() if one.status == DeploymentStatus.WAITING]


@pytest.mark.slow
@pytest.mark.parametrize("examples", [1, pytest.param(200, marks=pytest.mark.nightly)])
def test_deployments_live_as_their_gates_say(tables: None, examples: int) -> None:
    run_state_machine_as_test(
        DeploymentLife,
        settings=settings(
            deadline=None,
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            max_examples=examples,
            stateful_step_count=30,
            phases=[Phase.generate],
        ),
    )


@pytest.mark.parametrize("halves", [61, pytest.param(3, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_freezes_are_as_the_clocks_of_their_zone_show(zone: str, beginning: str, halves: int) -> None:
    start = datetime.fromisoformat(beginning).astimezone(UTC)
    for begin, end in (("SUN 02:30", "SUN 03:00"), ("FRI 16:00", "MON 08:00"), ("SUN 01:30", "SUN 02:30")):
        freeze = Freeze(begin, end, zone)
        for number in range(0, 9 * 48, halves):
            moment = start + timedelta(minutes=30 * number + 1)
            assert bool(freeze.end_if_active(moment)) == is_frozen({**freeze.as_dict()}, moment), (freeze, moment)
