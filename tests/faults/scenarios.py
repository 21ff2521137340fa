"""Trying an act while DynamoDB fails in every way at every call: nothing is lost, nothing is done twice.

A scenario makes a world and gives the act to try in it. Each act meets each fault at each of its calls. It must succeed
or say that it is unavailable; then it is tried again, as a client would, by another process. In the end every record
must be as after one undisturbed run.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache as remembered

import pytest
from django.core.cache import cache

from controlplane.lib.errors import ApplicationError
from tests.faults.injection import WRITES, Fault, fault
from tests.faults.world import Act, Kept, World, difference, snapshot
from tests.properties.consistency import Everything, Items


@dataclass(frozen=True)
class Scenario:
    """`refusals` are the codes with which a repetition may say that it was done before.

    An act that is not `repeatable` (it makes another token, say) is tried once: it has happened whole or not at all.
    """

    prepare: Callable[[World], Act]
    refusals: frozenset[str]
    repeatable: bool
    prepared_once: bool

    def __str__(self) -> str:
        return self.prepare.__name__

    @contextmanager
    def ready(self) -> Iterator[Act]:
        """The act, in a world that is prepared for it."""
        if self.prepared_once:
            kept, act = _prepared(self)
            with kept.again():
                yield act
        else:
            with first_world().again() as world:
                yield self.prepare(world)


@remembered
def first_world() -> Kept:
    """A world, kept, in which nothing has been done yet."""
    world = World()
    kept = Kept(world)
    world.close()
    return kept


@remembered
def _prepared(scenario: Scenario) -> tuple[Kept, Act]:
    with first_world().again() as world:
        act = scenario.prepare(world)
        return Kept(world), act


class Scenarios:
    """The scenarios of one file; use as a decorator, then iterate for a test's parameters."""

    def __init__(self, *, prepared_once: bool = False) -> None:
        """What is `prepared_once` is restored for each try, so its acts may keep nothing but identifiers."""
        self._prepared_once = prepared_once
        self._found: list[Scenario] = []

    def __call__(self, *refusals: str, repeatable: bool = True) -> Callable[[Callable[[World], Act]], None]:
        def register(prepare: Callable[[World], Act]) -> None:
            self._found.append(Scenario(prepare, frozenset(refusals), repeatable, self._prepared_once))

        return register

    def __iter__(self) -> Iterator[Scenario]:
        return iter(self._found)


@dataclass(frozen=True)
class Undisturbed:
    """How the world is before the act and after one run of it, and how many calls it takes."""

    before: Counter[str]
    after: Counter[str]
    calls: list[str]


@remembered
def _undisturbed(scenario: Scenario) -> Undisturbed:
    with scenario.ready() as act:
        before = snapshot()
        cache.clear()
        with fault(None) as counted, suppress(*(ApplicationError for _ in scenario.refusals)):
            act()
        return Undisturbed(before, snapshot(), counted.operations)


def _try(scenario: Scenario, act: Act) -> bool:
    """True when the act is done, or was done before; False when it has to be tried again."""
    refusal: ApplicationError | None = None
    try:
        act()
    except ApplicationError as error:
        refusal = error
    if refusal is None:
        return True
    if refusal.status == 503:
        assert refusal.retry_after
        return False
    if refusal.code == "idempotency_key_in_use":
        return False
    assert refusal.code in scenario.refusals, refusal.code
    return True


# The answers that most easily lead astray run always, the others with the slow tests.
_ALWAYS = {(Fault.LOST, False), (Fault.CONFLICT, True)}
FAULTS = [
    pytest.param(
        kind,
        lasting,
        id=f"{kind}-{'lasting' if lasting else 'once'}",
        marks=() if (kind, lasting) in _ALWAYS else pytest.mark.nightly,
    )
    for kind in Fault
    for lasting in (False, True)
]


# A read meets no conflict: what lasts begins with the next write. Its lost answer is the same as a timeout.
_OF_WRITES = {(Fault.CONFLICT, False), (Fault.CONFLICT, True), (Fault.LOST, False)}


def faults_survived(scenario: Scenario, kind: Fault, *, lasting: bool) -> None:
    """Let the act meet the fault at each of its calls in turn, and compare. The fixture `tables` is needed."""
    for call, operation in enumerate(_undisturbed(scenario).calls):
        if operation not in WRITES and (kind, lasting) in _OF_WRITES:
            continue
        with scenario.ready() as act:
            _fail_once_and_compare(act, scenario, kind, lasting, call, where=f"{kind} at call {call} ({operation})")


def _fail_once_and_compare(act: Act, scenario: Scenario, kind: Fault, lasting: bool, call: int, *, where: str) -> None:
    undisturbed = _undisturbed(scenario)
    cache.clear()
    with fault(kind, call=call, lasting=lasting) as injected:
        done = _try(scenario, act)
    assert injected.hit
    if scenario.repeatable:
        # Also when it is done: to ask again must change nothing.
        cache.clear()
        done = _try(scenario, act)
        assert done, "it is still refused when all is well again"
    items = Items()
    found = snapshot(items)
    if done:
        gap = difference(undisturbed.after, found)
        assert not gap, f"{where}: {gap}"
    else:
        assert found in (undisturbed.before, undisturbed.after), (where, difference(undisturbed.after, found))
    assert Everything.read(items).inconsistencies() == [], where
