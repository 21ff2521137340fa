"""What an identity token says of a job, and its subject above all."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.secrets.services.identity_claims import CLAIMS, LIFETIME, JobIdentity, subject_of, token_claims

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
COMMIT = "c0ffee" + "0" * 34


def identity(**members: Any) -> JobIdentity:
    return JobIdentity(
        **{
            "job_id": "job1",
            "attempt": 2,
            "run_id": "run1",
            "pipeline": "web",
            "repository": "https://git.example.com/web.git",
            "git_ref": "main",
            "event": "api",
            "environment": None,
            "commit": COMMIT,
            "agent_id": "agent1",
            "agent_name": "build-1",
            "targets": ["staging", "production"],
            "ends_at": NOW + timedelta(hours=1),
            **members,
        }
    )


def claims(**members: Any) -> dict[str, Any]:
    return token_claims(identity(**members), issuer="https://ci.example.com", audience="aws", token_id="t1", now=NOW)


def test_a_token_says_which_job_of_which_pipeline_ref_run_and_agent_asks() -> None:
    now = int(NOW.timestamp())
    assert claims(environment="production") == {
        "iss": "https://ci.example.com",
        "sub": "pipeline:web:environment:production:ref:refs/heads/main",
        "aud": "aws",
        "exp": now + 900,
        "nbf": now - 60,
        "iat": now,
        "jti": "t1",
        "pipeline": "web",
        "repository": "https://git.example.com/web.git",
        "ref": "refs/heads/main",
        "ref_type": "branch",
        "branch": "main",
        "environment": "production",
        "event": "api",
        "run_id": "run1",
        "job_id": "job1",
        "attempt": "2",
        "agent_id": "agent1",
        "agent_name": "build-1",
        "agent_deployment_targets": ["production", "staging"],
        "reported_commit": COMMIT,
    }


def test_all_claims_are_announced() -> None:
    seen = {*claims(environment="production"), *claims(event="pull_request")}
    assert seen == set(CLAIMS)


@pytest.mark.parametrize(
    ("git_ref", "subject", "ref_type", "branch"),
    [
        ("main", "ref:refs/heads/main", "branch", "main"),
        ("refs/heads/main", "ref:refs/heads/main", "branch", "main"),
        ("refs/heads/feature/x+y@1#2", "ref:refs/heads/feature/x+y@1#2", "branch", "feature/x+y@1#2"),
        ("heads/main", "ref:refs/heads/heads/main", "branch", "heads/main"),
        ("refs/tags/v1.0", "ref:refs/tags/v1.0", "tag", None),
        (COMMIT, f"commit:{COMMIT}", "commit", None),
        # A branch of this name and a commit that begins so look the same.
        ("c0ffee1", "ref:c0ffee1", "other", None),
        ("HEAD", "ref:HEAD", "other", None),
        ("refs/pull/7/head", "ref:refs/pull/7/head", "other", None),
        ("refs/heads/zürich", "ref:refs/heads/z%C3%BCrich", "branch", "zürich"),
    ],
)
def test_the_subject_has_the_whole_name_of_the_ref(
    git_ref: str, subject: str, ref_type: str, branch: str | None
) -> None:
    found = claims(git_ref=git_ref)
    assert found["sub"] == f"pipeline:web:{subject}"
    assert (found["ref_type"], found.get("branch")) == (ref_type, branch)


@pytest.mark.parametrize("environment", [None, "production"])
@pytest.mark.parametrize("git_ref", ["main", "refs/heads/main", "refs/tags/v1", "refs/pull/7/head", COMMIT])
def test_a_pull_request_never_has_the_subject_the_branch_or_the_environment_of_others(
    git_ref: str, environment: str | None
) -> None:
    """Its branch may be called main, and its pipeline file may name any environment."""
    found = claims(git_ref=git_ref, event="pull_request", environment=environment)
    assert found["sub"] == "pipeline:web:pull_request"
    assert not {"branch", "ref", "environment"} & found.keys()
    assert (found["event"], found["ref_type"], found["head_ref"]) == ("pull_request", "pull_request", git_ref)


@pytest.mark.parametrize(
    "members",
    [
        {"pipeline": "web:ref:refs/heads/main"},
        {"pipeline": "web:pull_request"},
        {"git_ref": "x:environment:production"},
        {"git_ref": "refs/heads/x%3Aenvironment"},
        {"git_ref": "refs/heads/main\n"},
        {"environment": "x:ref:refs/heads/main"},
        {"environment": "production:ref:refs/heads/main", "git_ref": "evil"},
        {"git_ref": "*"},
    ],
)
def test_no_name_can_contain_a_part_of_a_subject(members: dict[str, str]) -> None:
    """Names of this kind are refused where they are made. A subject must not depend on that."""
    subject = subject_of(identity(**members))
    kinds = subject.split(":")[::2]
    assert kinds in (["pipeline", "ref"], ["pipeline", "environment", "ref"])
    assert all(character.isalnum() or character in ":._-~/+@#%" for character in subject)
    (given,) = (value for name, value in members.items() if name != "git_ref" or len(members) == 1)
    assert given not in subject


def test_two_jobs_have_one_subject_only_if_pipeline_ref_and_environment_are_the_same() -> None:
    parts = ("a", "a:b", "b", "a%3Ab", "ref", "environment", "pull_request", "commit", COMMIT)
    seen: dict[str, tuple[str, ...]] = {}
    for pipeline in parts:
        for ref in parts:
            for environment in (None, *parts):
                subject = subject_of(identity(pipeline=pipeline, git_ref=ref, environment=environment))
                same = (pipeline, ref, str(environment))
                assert seen.setdefault(subject, same) == same


def test_a_token_ends_after_15_minutes_and_with_the_time_of_its_job() -> None:
    assert timedelta(minutes=15) == LIFETIME
    assert claims(ends_at=NOW + timedelta(hours=5))["exp"] == NOW.timestamp() + 900
    assert claims(ends_at=NOW + timedelta(minutes=3))["exp"] == NOW.timestamp() + 180


def test_what_is_not_known_is_not_claimed() -> None:
    assert not {"environment", "reported_commit"} & claims(commit=None).keys()
