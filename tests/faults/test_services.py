"""DynamoDB fails in every way at every call of every service: nothing acknowledged is lost, nothing is done twice.

A scenario makes a world and gives the act to try in it. Each act meets each fault at each of its calls. It must succeed
or say that it is unavailable; then it is tried again, as a client would, by another process. In the end every record
must be as after one undisturbed run.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache as remembered

import pytest
from django.core.cache import cache

from apps.accounts.models import ApiToken, User
from apps.accounts.services import (
    api_token_create,
    api_token_revoke,
    api_token_verify,
    sign_in_failed_record,
    sign_in_record,
    sign_out,
    user_create,
    user_disable,
)
from apps.accounts.services.api_tokens import _verified
from apps.accounts.session_store import SessionStore
from apps.agents.services import (
    agent_drain,
    agent_enrol,
    agent_key_mark_used,
    agent_key_rotate,
    agent_resume,
    agent_retire,
    agents_mark_silent,
    enrolment_token_create,
)
from apps.jobs.services import (
    AttemptResult,
    attempt_define,
    attempt_finish,
    attempt_start,
    job_cancel,
    job_create,
    job_retry,
    leases_expire,
    log_append,
    logs_store,
    pipeline_delete,
    pipeline_save,
    sets_prune,
)
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import ApplicationError
from tests.faults.injection import Fault, fault
from tests.faults.world import ADMIN, DEFINITION, REPOSITORY, SUCCESS, Act, World, difference, snapshot
from tests.properties.consistency import Everything

FAILURE = AttemptResult(exit_code=1, error_message=None, steps=[], log_chunks=1, commit=None)
IN_REPOSITORY = "retries: 1\nsteps:\n  - name: test\n    run: make test\n"
FOR_ANOTHER_MACHINE = f"labels: [gpu]\n{IN_REPOSITORY}"
PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Scenario:
    """`refusals` are the codes with which a repetition may say that it was done before.

    An act that is not `repeatable` (it makes another token, say) is tried once: it has happened whole or not at all.
    """

    prepare: Callable[[World], Act]
    refusals: frozenset[str]
    repeatable: bool


SCENARIOS: dict[str, Scenario] = {}


def scenario(*refusals: str, repeatable: bool = True) -> Callable[[Callable[[World], Act]], None]:
    def register(prepare: Callable[[World], Act]) -> None:
        SCENARIOS[prepare.__name__] = Scenario(prepare, frozenset(refusals), repeatable)

    return register


# --- people and jobs ------------------------------------------------------------------------------------------------


@scenario()
def create_with_a_key(world: World) -> Act:
    return lambda: job_create(actor=ADMIN, pipeline="self", labels=["linux"], idempotency_key="once")


@scenario(repeatable=False)
def create_without_a_key(world: World) -> Act:
    # So that the set is in the registry; that one may be there without need is no harm.
    world.job()
    return lambda: job_create(actor=ADMIN, pipeline="self")


@scenario()
def retry_with_a_key(world: World) -> Act:
    job_id = world.ended()
    return lambda: job_retry(actor=ADMIN, job_id=job_id, idempotency_key="once")


@scenario()
def cancel_a_queued_job(world: World) -> Act:
    job_id = world.job()
    return lambda: job_cancel(actor=ADMIN, job_id=job_id)


@scenario()
def cancel_an_assigned_job(world: World) -> Act:
    job_id = world.assigned()
    return lambda: job_cancel(actor=ADMIN, job_id=job_id)


@scenario()
def cancel_a_running_job(world: World) -> Act:
    job_id = world.running()
    return lambda: job_cancel(actor=ADMIN, job_id=job_id)


@scenario()
def save_a_new_pipeline(world: World) -> Act:
    return lambda: pipeline_save(
        actor=ADMIN, name="new", repository=REPOSITORY, default_ref="main", definition=DEFINITION
    )


@scenario()
def save_a_pipeline_again(world: World) -> Act:
    return lambda: pipeline_save(
        actor=ADMIN, name="self", repository=REPOSITORY, default_ref="next", definition=DEFINITION
    )


@scenario("pipeline_not_found")
def delete_a_pipeline(world: World) -> Act:
    return lambda: pipeline_delete(actor=ADMIN, name="self")


# --- agents and jobs ------------------------------------------------------------------------------------------------


@scenario()
def beat_and_claim(world: World) -> Act:
    world.job(labels=["linux"])
    return lambda: world.beat()


@scenario()
def beat_and_claim_two(world: World) -> Act:
    world.job()
    world.job(labels=["linux"])
    return lambda: world.beat(free=2)


@scenario()
def beat_after_an_assignment_was_not_acknowledged(world: World) -> Act:
    world.assigned()
    world.wait(65)
    return lambda: world.beat(free=0)


@scenario()
def beat_after_a_restart_that_lost_a_job(world: World) -> Act:
    world.running()
    world.wait(50)
    return lambda: world.beat(free=0)


@scenario()
def start(world: World) -> Act:
    job_id = world.assigned()
    return lambda: attempt_start(agent=world.agent, job_id=job_id, attempt=1)


def _define(world: World, job_id: str, text: str) -> Act:
    return lambda: attempt_define(
        agent=world.agent, agent_labels=["linux"], job_id=job_id, attempt=1, commit="c0ffee", text=text
    )


@scenario()
def define(world: World) -> Act:
    return _define(world, world.running(pipeline="repo"), IN_REPOSITORY)


@scenario("job_moved", "stale_attempt")
def define_for_another_machine(world: World) -> Act:
    return _define(world, world.running(pipeline="repo"), FOR_ANOTHER_MACHINE)


@scenario("job_moved", "stale_attempt")
def define_a_cancelled_job_for_another_machine(world: World) -> Act:
    job_id = world.running(pipeline="repo")
    job_cancel(actor=ADMIN, job_id=job_id)
    return _define(world, job_id, FOR_ANOTHER_MACHINE)


@scenario()
def print_(world: World) -> Act:
    job_id = world.running()
    return lambda: log_append(agent_id=world.agent.id, job_id=job_id, attempt=1, sequence=1, data=b"more\n")


@scenario()
def finish(world: World) -> Act:
    job_id = world.running()
    return lambda: attempt_finish(agent=world.agent, job_id=job_id, attempt=1, result=SUCCESS)


@scenario()
def finish_after_a_wish_to_cancel(world: World) -> Act:
    job_id = world.running()
    job_cancel(actor=ADMIN, job_id=job_id)
    return lambda: attempt_finish(agent=world.agent, job_id=job_id, attempt=1, result=FAILURE)


# --- the sweep ------------------------------------------------------------------------------------------------------


@scenario()
def expire_leases(world: World) -> Act:
    world.running()
    world.job()
    world.beat()
    world.wait(50)
    return leases_expire


@scenario()
def expire_a_lease_for_the_last_time(world: World) -> Act:
    job_id = world.running()
    world.wait(50)
    leases_expire()
    world.beat()
    attempt_start(agent=world.agent, job_id=job_id, attempt=2)
    world.wait(50)
    return leases_expire


@scenario()
def store_logs(world: World) -> Act:
    world.ended()
    world.ended()
    return logs_store


@scenario()
def mark_an_empty_set(world: World) -> Act:
    world.assigned()
    return sets_prune


@scenario()
def prune_an_empty_set(world: World) -> Act:
    world.assigned()
    sets_prune()
    world.wait(65)
    return sets_prune


# --- agents ---------------------------------------------------------------------------------------------------------


@scenario(repeatable=False)
def create_an_enrolment_token(world: World) -> Act:
    return lambda: enrolment_token_create(uses=3, expires_at=clock.now() + timedelta(days=1), actor=ADMIN)


@scenario()
def enrol(world: World) -> Act:
    return lambda: agent_enrol(
        token=world.token, name="new", region="us", labels=[], slots=1, idempotency_key="machine-1"
    )


@scenario(repeatable=False)
def enrol_without_a_key(world: World) -> Act:
    return lambda: agent_enrol(token=world.token, name="new", region="us", labels=[], slots=1)


@scenario(repeatable=False)
def rotate_a_key(world: World) -> Act:
    return lambda: agent_key_rotate(agent_id=world.agent.id, actor=ADMIN)


@scenario()
def mark_a_key_used(world: World) -> Act:
    return lambda: agent_key_mark_used(agent_id=world.agent.id, key_id=world.credentials.key_id)


@scenario()
def beat_after_silence(world: World) -> Act:
    world.wait(50)
    agents_mark_silent()
    return lambda: world.beat(free=0)


@scenario()
def mark_silent_agents(world: World) -> Act:
    world.wait(50)
    return agents_mark_silent


@scenario()
def drain(world: World) -> Act:
    return lambda: agent_drain(agent_id=world.agent.id, actor=ADMIN)


@scenario()
def resume(world: World) -> Act:
    agent_drain(agent_id=world.agent.id, actor=ADMIN)
    return lambda: agent_resume(agent_id=world.agent.id, actor=ADMIN)


@scenario()
def retire(world: World) -> Act:
    return lambda: agent_retire(agent_id=world.agent.id, actor=ADMIN)


# --- accounts -------------------------------------------------------------------------------------------------------


def _someone() -> User:
    return user_create(email="ada@example.com", password=PASSWORD, name="Ada", role="admin", actor=SYSTEM)


@scenario("email_taken")
def create_a_user(world: World) -> Act:
    return _someone


@scenario()
def disable_a_user(world: World) -> Act:
    user = _someone()
    return lambda: user_disable(user_id=user.user_id, actor=ADMIN)


@scenario(repeatable=False)
def create_an_api_token(world: World) -> Act:
    user = _someone()
    return lambda: api_token_create(user=user, name="ci", actor=ADMIN)


@scenario()
def revoke_an_api_token(world: World) -> Act:
    token, _ = api_token_create(user=_someone(), name="ci", actor=ADMIN)
    return lambda: api_token_revoke(token=token, actor=ADMIN)


@scenario()
def verify_an_api_token(world: World) -> Act:
    token, secret = api_token_create(user=_someone(), name="ci", actor=ADMIN)

    def verify() -> None:
        # As a process does that has not seen the token yet.
        _verified.drop(token.token_hash)
        api_token_verify(secret)

    # Noted a moment ago. That a use may go unnoted is a case of its own.
    token.update(actions=[ApiToken.last_used_at.set(clock.timestamp(clock.now()))])
    return verify


@scenario(repeatable=False)
def record_a_sign_in(world: World) -> Act:
    user = _someone()
    return lambda: sign_in_record(actor=_actor_of(user), provider="password", address="127.0.0.1")


@scenario(repeatable=False)
def record_a_failed_sign_in(world: World) -> Act:
    return lambda: sign_in_failed_record(email="eve@example.com", provider="password", address="127.0.0.1")


@scenario()
def sign_someone_out(world: World) -> Act:
    session = SessionStore()
    session["colour"] = "green"
    session.save()
    key = str(session.session_key)
    return lambda: sign_out(actor=ADMIN, session_key=key)


@scenario()
def save_a_session(world: World) -> Act:
    session = SessionStore()
    session.save()
    key = str(session.session_key)

    def save() -> None:
        again = SessionStore(key)
        again["colour"] = "green"
        again.save()

    return save


def _actor_of(user: User) -> Actor:
    return Actor("user", user.user_id, user.name, ADMIN.permissions)


# --- the tests ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undisturbed:
    """How the world is before the act and after one run of it, and how many calls it takes."""

    before: Counter[str]
    after: Counter[str]
    calls: list[str]


@remembered
def _undisturbed(name: str) -> Undisturbed:
    world = World()
    try:
        act = SCENARIOS[name].prepare(world)
        before = snapshot()
        cache.clear()
        with fault(None) as counted, suppress(*_refused(name)):
            act()
        return Undisturbed(before, snapshot(), counted.operations)
    finally:
        world.close()


def _refused(name: str) -> tuple[type[Exception], ...]:
    return (ApplicationError,) if SCENARIOS[name].refusals else ()


def _try(name: str, act: Act) -> bool:
    """True when the act is done, or was done before; False when it has to be tried again."""
    try:
        act()
    except ApplicationError as error:
        if error.status == 503 or error.code == "idempotency_key_in_use":
            assert error.retry_after is not None or error.status != 503
            return False
        assert error.code in SCENARIOS[name].refusals, error.code
    return True


# The answers that most easily lead astray run always, the others with the slow tests.
_ALWAYS = {(Fault.LOST, True), (Fault.CONFLICT, True), (Fault.THROTTLE, False)}
_FAULTS = [
    pytest.param(
        kind,
        lasting,
        id=f"{kind}-{'lasting' if lasting else 'once'}",
        marks=() if (kind, lasting) in _ALWAYS else pytest.mark.slow,
    )
    for kind in Fault
    for lasting in (False, True)
]


@pytest.mark.parametrize(("kind", "lasting"), _FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, name: str, kind: Fault, lasting: bool
) -> None:
    for call, operation in enumerate(_undisturbed(name).calls):
        world = World()
        try:
            _fail_once_and_compare(world, name, kind, lasting, call, where=f"{kind} at call {call} ({operation})")
        finally:
            world.close()


def _fail_once_and_compare(world: World, name: str, kind: Fault, lasting: bool, call: int, *, where: str) -> None:
    undisturbed, is_repeatable = _undisturbed(name), SCENARIOS[name].repeatable
    act = SCENARIOS[name].prepare(world)
    cache.clear()
    with fault(kind, call=call, lasting=lasting) as injected:
        done = _try(name, act)
    # Reads meet no conflict.
    assert injected.hit or kind == Fault.CONFLICT
    if is_repeatable:
        # Also when it is done: to ask again must change nothing.
        cache.clear()
        done = _try(name, act)
        assert done, "it is still refused when all is well again"
    found = snapshot()
    if done:
        assert difference(undisturbed.after, found) == "", where
    else:
        assert found in (undisturbed.before, undisturbed.after), (where, difference(undisturbed.after, found))
    assert Everything.read().inconsistencies() == [], where
