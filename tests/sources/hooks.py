"""Webhooks as providers send them, in their documented shape, with only the members that say something."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import requests

from apps.pipelines.services import pipeline_save
from apps.sources.services import connection_create
from controlplane.lib import clock
from controlplane.lib.webhook_signature import webhook_headers
from tests.clients import Client
from tests.conftest import ADMIN

SECRET = "It's a Secret to Everybody"
STANDARD_SECRET = f"whsec_{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}"
A, B, C, D = (letter * 40 for letter in "abcd")
NONE = "0" * 40
REPOSITORY = "acme/shop"
STEPS = "steps: [{run: make}]"
Json = dict[str, Any]


def connected(connection_id: str = "hub", provider: str = "github", **members: Any) -> str:
    """A connection whose secret the tests know."""
    secret = STANDARD_SECRET if provider == "standard" else SECRET
    connection_create(actor=ADMIN, connection_id=connection_id, provider=provider, webhook_secret=secret, **members)
    return connection_id


def bound(
    name: str = "web", *, definition: str | None = STEPS, source: str = "hub", repository: str = REPOSITORY
) -> str:
    """A pipeline that is bound to a repository of the connection."""
    pipeline_save(
        actor=ADMIN,
        name=name,
        repository=f"https://github.com/{repository}.git",
        default_ref="main",
        definition=definition,
        source=source,
        source_repository=repository,
    )
    return name


# --- GitHub ----------------------------------------------------------------------------------------------------------


def github_repository(full_name: str = REPOSITORY, number: int = 35129377) -> Json:
    return {
        "id": number,
        "full_name": full_name,
        "name": full_name.partition("/")[2],
        "html_url": f"https://github.com/{full_name}",
        "clone_url": f"https://github.com/{full_name}.git",
        "default_branch": "main",
        "pushed_at": 1795761000,
    }


def github_push(
    ref: str = "refs/heads/main",
    *,
    before: str = A,
    after: str = B,
    paths: tuple[str, ...] = ("src/app.py",),
    message: str = "Fix the cart",
    forced: bool = False,
    repository: str = REPOSITORY,
    at: int = 1795761000,
) -> Json:
    commit = {
        "id": after,
        "message": message,
        "timestamp": "2026-11-27T06:30:00+00:00",
        "author": {"name": "Mona", "email": "mona@example.com", "username": "mona"},
        "added": list(paths[:1]),
        "removed": [],
        "modified": list(paths[1:]),
    }
    is_deleted = after == NONE
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "created": before == NONE,
        "deleted": is_deleted,
        "forced": forced,
        "compare": f"https://github.com/{repository}/compare/{before[:12]}...{after[:12]}",
        "commits": [] if is_deleted else [commit],
        "head_commit": None if is_deleted else commit,
        "repository": {**github_repository(repository), "pushed_at": at},
        "pusher": {"name": "mona", "email": "mona@example.com"},
        "sender": {"login": "mona", "id": 1},
        "installation": {"id": 234},
    }


def github_pull(
    action: str = "opened",
    *,
    number: int = 7,
    head: str = B,
    before: str | None = None,
    base: str = "main",
    fork: bool = False,
    title: str = "Add a coupon",
) -> Json:
    source = github_repository("stranger/shop", 999) if fork else github_repository()
    return {
        "action": action,
        "number": number,
        **({"before": before, "after": head} if before else {}),
        "pull_request": {
            "id": 279147437,
            "number": number,
            "state": "closed" if action == "closed" else "open",
            "title": title,
            "html_url": f"https://github.com/{REPOSITORY}/pull/{number}",
            "user": {"login": "stranger" if fork else "mona"},
            "updated_at": "2026-11-27T06:30:00Z",
            "head": {"ref": "coupon", "sha": head, "repo": source},
            "base": {"ref": base, "sha": A, "repo": github_repository()},
        },
        "repository": github_repository(),
        "sender": {"login": "stranger" if fork else "mona", "id": 1},
    }


def github_headers(kind: str, body: bytes, *, secret: str = SECRET, delivery: str = "", app: str = "") -> Json:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    target = {"X-GitHub-Hook-Installation-Target-Type": "integration", "X-GitHub-Hook-Installation-Target-ID": app}
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": kind,
        "X-GitHub-Delivery": delivery or hashlib.sha256(body).hexdigest()[:36],
        "X-Hub-Signature-256": f"sha256={signature}",
        **(target if app else {}),
    }


# --- GitLab ----------------------------------------------------------------------------------------------------------


def gitlab_project() -> Json:
    return {
        "id": 15,
        "path_with_namespace": REPOSITORY,
        "git_http_url": f"https://gitlab.com/{REPOSITORY}.git",
        "web_url": f"https://gitlab.com/{REPOSITORY}",
        "default_branch": "main",
    }


def gitlab_push(ref: str = "refs/heads/main", *, before: str = A, after: str = B, total: int = 1) -> Json:
    return {
        "object_kind": "tag_push" if ref.startswith("refs/tags/") else "push",
        "event_name": "push",
        "ref": ref,
        "before": before,
        "after": after,
        "checkout_sha": None if after == NONE else after,
        "user_username": "mona",
        "project_id": 15,
        "project": gitlab_project(),
        "commits": [
            {
                "id": after,
                "message": "Fix the cart\n",
                "title": "Fix the cart",
                "added": ["src/app.py"],
                "modified": [],
                "removed": [],
            }
        ],
        "total_commits_count": total,
    }


def gitlab_merge_request(action: str = "open", *, head: str = B, oldrev: str | None = None, fork: bool = False) -> Json:
    return {
        "object_kind": "merge_request",
        "user": {"username": "mona"},
        "project": gitlab_project(),
        "object_attributes": {
            "iid": 7,
            "action": action,
            **({"oldrev": oldrev} if oldrev else {}),
            "source_branch": "coupon",
            "target_branch": "main",
            "source_project_id": 99 if fork else 15,
            "target_project_id": 15,
            "source": {"path_with_namespace": "stranger/shop" if fork else REPOSITORY},
            "last_commit": {"id": head, "message": "Add a coupon"},
            "title": "Add a coupon",
            "url": f"https://gitlab.com/{REPOSITORY}/-/merge_requests/7",
            "updated_at": "2026-11-27 06:30:00 UTC",
        },
    }


def gitlab_headers(kind: str, body: bytes, *, secret: str = SECRET, delivery: str = "") -> Json:
    return {
        "Content-Type": "application/json",
        "X-Gitlab-Event": kind,
        "X-Gitlab-Event-UUID": "13792a34-cac6-4fda-95a8-c58e00a3954e",
        "Idempotency-Key": delivery or hashlib.sha256(body).hexdigest()[:36],
        "X-Gitlab-Token": secret,
    }


# --- Gitea, Forgejo --------------------------------------------------------------------------------------------------


def gitea_push(ref: str = "refs/heads/main", *, before: str = A, after: str = B) -> Json:
    return {
        **github_push(ref, before=before, after=after),
        "total_commits": 1,
        "compare_url": "https://git.example.com",
    }


def gitea_pull(action: str = "opened", *, head: str = B, fork: bool = False) -> Json:
    payload = github_pull(action, head=head, fork=fork)
    for side in ("head", "base"):
        payload["pull_request"][side]["repo_id"] = payload["pull_request"][side]["repo"]["id"]
    return payload


def gitea_headers(kind: str, body: bytes, *, secret: str = SECRET, delivery: str = "") -> Json:
    return {
        "Content-Type": "application/json",
        "X-Gitea-Event": kind,
        "X-Gitea-Delivery": delivery or hashlib.sha256(body).hexdigest()[:36],
        "X-Gitea-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }


# --- Standard Webhooks -----------------------------------------------------------------------------------------------


def standard_push(ref: str = "refs/heads/main", *, before: str = A, after: str = B, **data: Any) -> Json:
    said = {"repository": REPOSITORY, "ref": ref, "before": before, "after": after, "message": "Fix the cart", **data}
    return {"type": "push", "timestamp": "2026-11-27T06:30:00Z", "data": said}


def standard_headers(
    _kind: str, body: bytes, *, secret: str = STANDARD_SECRET, delivery: str = "", at: int | None = None
) -> Json:
    message_id = delivery or f"msg_{hashlib.sha256(body).hexdigest()[:20]}"
    signed = webhook_headers(
        secrets=[secret], message_id=message_id, timestamp=clock.epoch() if at is None else at, body=body
    )
    return {"Content-Type": "application/json", **signed}


HEADERS: dict[str, Callable[..., Json]] = {
    "github": github_headers,
    "gitlab": gitlab_headers,
    "gitea": gitea_headers,
    "standard": standard_headers,
}


def send(
    server: str,
    payload: Mapping[str, Any],
    kind: str = "push",
    *,
    provider: str = "github",
    connection: str | None = None,
    **signing: Any,
) -> requests.Response:
    """Send a webhook over HTTP."""
    body = json.dumps(payload).encode()
    where = f"/webhooks/{provider}" + (f"/{connection}" if connection else "")
    return Client(server).post(where, data=body, headers=HEADERS[provider](kind, body, **signing))
