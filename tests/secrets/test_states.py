"""Scopes, names and values of secrets."""

import pytest

from apps.secrets.states import MAX_BYTES, Recipient, Scope, branches_validate, name_validate, value_validate
from controlplane.lib.errors import InvalidInput

JOB = Recipient(pipeline="web", branch="main", environment="production")


@pytest.mark.parametrize(
    ("scope", "job", "included"),
    [
        (Scope(), JOB, True),
        (Scope(pipeline="web"), JOB, True),
        (Scope(pipeline="api"), JOB, False),
        (Scope(environment="production"), JOB, True),
        (Scope(environment="staging"), JOB, False),
        (Scope(environment="production"), Recipient("web", "main"), False),
        (Scope(branches=("main",)), JOB, True),
        (Scope(branches=("release/*",)), Recipient("web", "release/1.2"), True),
        (Scope(branches=("release/*",)), JOB, False),
        (Scope(branches=("*",)), Recipient("web", None), False),
        (Scope(branches=("main",)), Recipient("web", None), False),
        (Scope(branches=("MAIN",)), JOB, False),
        (Scope(), Recipient("web", "main", is_proposed=True), False),
        (Scope(pull_requests=True), Recipient("web", "main", is_proposed=True), True),
        (Scope(pull_requests=True), Recipient("web", "main", is_proposed=True, is_from_fork=True), False),
        (Scope(), Recipient("web", "main", is_from_fork=True), False),
    ],
)
def test_a_scope_includes_the_jobs_that_it_names(scope: Scope, job: Recipient, included: bool) -> None:
    assert scope.includes(job) is included


def test_the_key_of_a_scope_tells_scopes_apart_and_not_their_order() -> None:
    scopes = [
        Scope(),
        Scope(pipeline="a"),
        Scope(environment="a"),
        Scope(branches=("a",)),
        Scope(branches=("a", "b")),
        Scope(pull_requests=True),
    ]
    assert len({scope.key for scope in scopes}) == len(scopes)
    assert Scope().key == ""
    assert Scope(branches=("b", "a")).key == Scope(branches=("a", "b")).key


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "CI", "HYBRID_CI_JOB_ID", "LD_PRELOAD", "lower", "1A", "A B", "", "A" * 65]
)
def test_a_name_that_programs_use_themselves_or_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name: must"):
        name_validate(name)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("short", "at least 8 characters"),
        ("     a    ", "at least 8 characters"),
        ("a" * (MAX_BYTES + 1), "at most 32,768 bytes"),
        ("é" * MAX_BYTES, "at most 32,768 bytes, not 65,536"),
        ("with a \0 in it", "NUL"),
        ("a lone surrogate \ud800", "valid Unicode"),
    ],
)
def test_a_value_that_cannot_be_a_variable_or_be_masked_is_refused_and_not_shown(value: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        value_validate(value)
    assert repr(value) not in f"{caught.value.errors!r}"


@pytest.mark.parametrize("branches", [[""], ["a b"], ["a\n"], ["x" * 256], [f"b{n}" for n in range(21)]])
def test_patterns_that_no_branch_can_match_are_refused(branches: list[str]) -> None:
    with pytest.raises(InvalidInput, match="branches: must be"):
        branches_validate(branches)
