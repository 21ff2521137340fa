"""What an identity token says of a job: its claims, and among them the subject, by which most systems decide.

The control plane itself knows all of it, but for what is named `reported_…`: that is what an agent says.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

from controlplane.lib.frozen import frozen

# The event of a run for a change that others propose, perhaps strangers.
PULL_REQUEST = "pull_request"
LIFETIME = timedelta(minutes=15)
# A system whose clock is so far behind accepts a token at once.
_CLOCKS_DIFFER = timedelta(minutes=1)
# A plain name of this form may be a commit: only the agent sees which it is.
_HEXADECIMAL = re.compile(r"[0-9a-f]{7,64}")
_COMMIT_LENGTHS = (40, 64)
# Besides letters, digits and . _ - ~. The colon separates the parts of a subject, and % begins an escape.
_UNESCAPED = "/+@#"

# By their names in RFC 7519, and then those of this product.
CLAIMS = (
    *("iss", "sub", "aud", "exp", "nbf", "iat", "jti"),
    *("pipeline", "repository", "ref", "ref_type", "branch", "head_ref", "environment", "event", "run_id", "job_id"),
    *("attempt", "agent_id", "agent_name", "agent_deployment_targets", "reported_commit"),
)


@frozen
class JobIdentity:
    """An attempt of a job that gets a token, as the control plane knows it.

    `git_ref` is what the run was started for; a name without ``refs/`` is taken for a branch, as agents do where there
    is one. `environment` must be one to which the agent may deploy. `targets` are all of those. `commit` is what an
    agent reported. The attempt cannot go on after `ends_at`.
    """

    job_id: str
    attempt: int
    run_id: str
    pipeline: str
    repository: str
    git_ref: str
    event: str
    environment: str | None
    commit: str | None
    agent_id: str
    agent_name: str
    targets: Sequence[str]
    ends_at: datetime
    # The commits come from another repository, and no operator has let the run.
    is_from_fork: bool = False

    @property
    def is_proposed(self) -> bool:
        """Whether strangers may have written what the job runs."""
        return self.event == PULL_REQUEST


def token_claims(
    identity: JobIdentity, *, issuer: str, audience: str, token_id: str, now: datetime
) -> dict[str, str | int | list[str]]:
    """All claims of a token of this moment. Those about which nothing is known are left out."""
    ends_at = min(now + LIFETIME, identity.ends_at)
    claims = {
        "iss": issuer,
        "sub": subject_of(identity),
        "aud": audience,
        "exp": int(ends_at.timestamp()),
        "nbf": int((now - _CLOCKS_DIFFER).timestamp()),
        "iat": int(now.timestamp()),
        "jti": token_id,
        "pipeline": identity.pipeline,
        "repository": identity.repository,
        **_ref_claims(identity),
        "environment": None if identity.is_proposed else identity.environment,
        "event": identity.event,
        "run_id": identity.run_id,
        "job_id": identity.job_id,
        # Systems that map claims to attributes take texts only.
        "attempt": str(identity.attempt),
        "agent_id": identity.agent_id,
        "agent_name": identity.agent_name,
        "agent_deployment_targets": sorted(identity.targets),
        "reported_commit": identity.commit,
    }
    return {name: value for name, value in claims.items() if value is not None}


def subject_of(identity: JobIdentity) -> str:
    """The subject: ``pipeline:web:ref:refs/heads/main``, with ``environment:production:`` before ``ref:`` where it is.

    The job of a pull request has ``pipeline:web:pull_request``, whatever else it is, and ``:fork`` after that if a
    stranger has written the commits. No part can contain a colon: what
    is no letter, digit or one of . _ - ~ / + @ # is percent-encoded.
    """
    pipeline = f"pipeline:{_escaped(identity.pipeline)}"
    if identity.is_proposed:
        return f"{pipeline}:{PULL_REQUEST}{':fork' if identity.is_from_fork else ''}"
    environment = f":environment:{_escaped(identity.environment)}" if identity.environment else ""
    kind, ref = _ref(identity.git_ref)
    return f"{pipeline}{environment}:{'commit' if kind == 'commit' else 'ref'}:{_escaped(ref)}"


def _ref_claims(identity: JobIdentity) -> dict[str, str]:
    """The claims about the ref. A pull request's is none of the repository's own, however it is called."""
    if identity.is_proposed:
        return {"ref_type": PULL_REQUEST, "head_ref": identity.git_ref}
    kind, ref = _ref(identity.git_ref)
    branch = {"branch": ref.removeprefix("refs/heads/")} if kind == "branch" else {}
    return {"ref": ref, "ref_type": kind, **branch}


def _ref(git_ref: str) -> tuple[str, str]:
    """What a ref is (branch, tag, commit or other), and its whole name."""
    for kind, beginning in (("branch", "refs/heads/"), ("tag", "refs/tags/")):
        if git_ref.startswith(beginning):
            return kind, git_ref
    if _HEXADECIMAL.fullmatch(git_ref):
        return "commit" if len(git_ref) in _COMMIT_LENGTHS else "other", git_ref
    if git_ref == "HEAD" or git_ref.startswith("refs/"):
        return "other", git_ref
    return "branch", f"refs/heads/{git_ref}"


def _escaped(part: str) -> str:
    return quote(part, safe=_UNESCAPED)
