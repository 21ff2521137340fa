"""A provider of repositories over real HTTP, which answers as GitHub Enterprise, GitLab and Gitea do.

One server has the three APIs at the places of the real ones: GitHub's below ``/api/v3``, GitLab's below ``/api/v4`` and
Gitea's below ``/api/v1``; GitHub's pages are at the root. Payloads have the documented shape, cut down to members that
matter. Tests may let it fail, be slow, lose answers and limit, by `FakeProvider.disturb`.
"""

import base64
import functools
import hmac
import json
import re
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from controlplane.lib import clock
from tests.agent.git_server import git_answer

GITHUB, GITLAB, GITEA = "/api/v3", "/api/v4", "/api/v1"

# What GitHub says of a token that lacks a permission.
NOT_GRANTED = {"message": "Resource not accessible by integration", "documentation_url": "https://docs.github.com/rest"}


@functools.cache
def private_key() -> str:
    """The private key of the apps of the tests, in the form that GitHub gives it out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@functools.cache
def _public_key() -> Any:
    return serialization.load_pem_private_key(private_key().encode(), None).public_key()


@dataclass
class FakeRepository:
    """A repository. `commits` are the ids of its default branch, oldest first; `changed` the paths of each."""

    full_name: str
    private: bool = True
    default_branch: str = "main"
    id: int = 1
    installation: int = 1
    commits: list[str] = field(default_factory=list)
    changed: dict[str, list[str]] = field(default_factory=dict)
    pull_files: dict[int, list[str]] = field(default_factory=dict)


@dataclass
class FakeApp:
    """A GitHub App with the permissions that its installations granted."""

    id: int = 4711
    slug: str = "hybrid-ci"
    client_id: str = "Iv1.f00d"
    client_secret: str = "the-client-secret-of-the-app"
    webhook_secret: str = "the-webhook-secret-of-the-app"
    manifest: dict[str, Any] = field(default_factory=dict)
    permissions: dict[str, str] = field(
        default_factory=lambda: {
            "checks": "write",
            "contents": "read",
            "metadata": "read",
            "pull_requests": "read",
            "statuses": "write",
        }
    )


@dataclass
class FakeToken:
    """A token. `repositories` are full names, None for all of the installation's."""

    permissions: dict[str, str]
    repositories: list[str] | None = None
    installation: int | None = None
    expires_at: datetime | None = None


@dataclass
class FakeDelivery:
    """A delivery of a webhook, as the App's list shows it."""

    id: int
    guid: str
    event: str
    payload: dict[str, Any]
    delivered_at: datetime
    status_code: int
    redelivery: bool = False

    def arrived(self, number: int) -> "FakeDelivery":
        """A further attempt of the same delivery, which has arrived."""
        return replace(self, id=number, status_code=200, redelivery=True)

    def shown(self) -> dict[str, Any]:
        """The delivery in a list."""
        return {
            "id": self.id,
            "guid": self.guid,
            "delivered_at": _time(self.delivered_at),
            "redelivery": self.redelivery,
            "duration": 0.1,
            "status": "OK" if self.status_code < 400 else "Invalid HTTP Response",
            "status_code": self.status_code,
            "event": self.event,
            "action": self.payload.get("action"),
            "installation_id": 1,
            "repository_id": 1,
        }


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    """What the server answers. `lost`: it does the work, and closes the connection without an answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


@dataclass
class Disturbance:
    """What happens to the next `times` requests whose method and path fit `path`, a regular expression."""

    kind: str
    times: int
    path: str
    answer: Answer
    seconds: float = 0


class FakeProvider:
    """What the test sets, and what the provider then has."""

    def __init__(self) -> None:
        self.url = ""
        self.app: FakeApp | None = None
        self.tokens: dict[str, FakeToken] = {}
        self.repositories: dict[str, FakeRepository] = {}
        self.deliveries: list[FakeDelivery] = []
        self.asked: list[Asked] = []
        # By repository and commit, in the order in which they came.
        self.check_runs: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        # Codes of the manifest flow that may be exchanged once.
        self.codes: dict[str, dict[str, Any]] = {}
        # Where deliveries go, and the secret that signs them.
        self.webhook_url = ""
        self.disturbances: list[Disturbance] = []
        # Called before each request to an API; an answer of it is the answer.
        self.before: Callable[[Asked], Answer | None] = lambda _asked: None
        self.page_size = 100
        # Bare repositories as owner/name.git, which git fetches with a token that may read contents.
        self.git_folder: Path | None = None
        self._lock = threading.RLock()

    # What tests set

    def repository_add(self, full_name: str, **members: Any) -> FakeRepository:
        """Add a repository."""
        repository = FakeRepository(full_name, id=len(self.repositories) + 1, **members)
        self.repositories[full_name] = repository
        return repository

    def app_add(self, **members: Any) -> FakeApp:
        """Let there be an app, installed for all repositories."""
        self.app = FakeApp(**members)
        return self.app

    def token_add(self, *, repositories: list[str] | None = None, **permissions: str) -> str:
        """A token that a person has made. Without permissions it may do everything."""
        token = f"plain_{secrets.token_hex(20)}"
        granted = permissions or {"contents": "write", "statuses": "write", "checks": "write"}
        self.tokens[token] = FakeToken(granted, repositories)
        return token

    def disturb(self, kind: str, *, times: int = 1, path: str = "", seconds: float = 0, status: int = 502) -> None:
        """Let the next requests be disturbed.

        ``fail`` answers the status; ``delay`` waits so many seconds first; ``lose`` does the work and loses the answer;
        ``limit`` and ``secondary`` are GitHub's two limits, with the reset or Retry-After in so many seconds.
        """
        answers = {
            "fail": Answer(status, {"message": "Server Error"}),
            "delay": Answer(),
            "lose": Answer(lost=True),
            "limit": Answer(
                403,
                {"message": "API rate limit exceeded for installation ID 1."},
                {
                    "X-RateLimit-Limit": "5000",
                    "X-RateLimit-Remaining": "0",
                    "X-RateLimit-Reset": str(int(clock.now().timestamp() + seconds)),
                },
            ),
            "secondary": Answer(
                403,
                {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."},
                {"Retry-After": str(int(seconds))} if seconds else {},
            ),
        }
        self.disturbances.append(Disturbance(kind, times, path, answers[kind], seconds))

    # Deliveries

    def deliver(
        self,
        event: str,
        payload: dict[str, Any],
        *,
        guid: str | None = None,
        signed_by: str | None = None,
        lost: bool = False,
    ) -> int:
        """Send a webhook of GitHub to `webhook_url` and keep it in the App's list. Returns the status.

        `lost`: nothing is sent, and the list has a delivery that failed.
        """
        guid = guid or secrets.token_hex(16)
        status = 504 if lost else self._send(event, payload, guid, signed_by)
        with self._lock:
            number = len(self.deliveries) + 1
            self.deliveries.append(FakeDelivery(number, guid, event, payload, clock.now(), status))
        return status

    def _send(self, event: str, payload: dict[str, Any], guid: str, signed_by: str | None = None) -> int:
        body = json.dumps(payload).encode()
        secret = signed_by or (self.app.webhook_secret if self.app else "")
        request = urllib.request.Request(
            self.webhook_url, data=body, headers=github_headers(event, body, guid, secret), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 502

    # What the server does

    def answer(self, asked: Asked) -> Answer:
        """The answer to a request, with its effect."""
        with self._lock:
            self.asked.append(asked)
            disturbance = next((one for one in self.disturbances if self._fits(one, asked)), None)
            if disturbance is not None:
                disturbance.times -= 1
                if not disturbance.times:
                    self.disturbances.remove(disturbance)
        if disturbance is not None and disturbance.kind == "delay":
            time.sleep(disturbance.seconds)
        elif disturbance is not None and not disturbance.answer.lost:
            return disturbance.answer
        with self._lock:
            answer = self.before(asked) or self._routed(asked)
        if disturbance is not None and disturbance.answer.lost:
            return disturbance.answer
        return answer

    def _fits(self, disturbance: Disturbance, asked: Asked) -> bool:
        return re.search(disturbance.path, f"{asked.method} {asked.path}") is not None

    def _routed(self, asked: Asked) -> Answer:
        for method, form, name in _ROUTES:
            found = re.fullmatch(form, asked.path)
            if found and method == asked.method:
                return getattr(self, name)(asked, **{key: unquote(value) for key, value in found.groupdict().items()})
        return _not_found()

    # GitHub: the manifest flow and the app itself

    def _app_new(self, asked: Asked, owner: str = "") -> Answer:
        """The form that a browser sends: GitHub makes the app at once, as if the user had clicked."""
        manifest = json.loads(asked.body["manifest"])
        code = secrets.token_hex(16)
        self.codes[code] = {**manifest, "owner": owner or "octo"}
        back = urlencode({"code": code, "state": asked.query.get("state", "")})
        return Answer(302, None, {"Location": f"{manifest['redirect_url']}?{back}"})

    def _app_convert(self, _asked: Asked, code: str) -> Answer:
        manifest = self.codes.pop(code, None)
        if manifest is None:
            return _not_found()
        app = self.app_add(manifest=manifest, permissions=manifest["default_permissions"])
        shown = {
            **self._app_shown(app),
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "webhook_secret": app.webhook_secret,
            "pem": private_key(),
        }
        return Answer(201, shown)

    def _app_shown(self, app: FakeApp) -> dict[str, Any]:
        return {
            "id": app.id,
            "slug": app.slug,
            "node_id": "MDM6QXBw",
            "owner": {"login": app.manifest.get("owner", "octo"), "id": 1, "type": "Organization"},
            "name": app.manifest.get("name", "Hybrid CI"),
            "html_url": f"{self.url}/github-apps/{app.slug}",
            "permissions": app.permissions,
            "events": app.manifest.get("default_events", []),
        }

    def _app_get(self, asked: Asked) -> Answer:
        refused = self._app_refuse(asked)
        return refused or Answer(200, self._app_shown(self._app()))

    def _app_refuse(self, asked: Asked) -> Answer | None:
        """401 unless the request has the app's JWT as GitHub wants it."""
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        now = clock.now().timestamp()
        try:
            options: Any = {"verify_exp": False, "verify_iat": False, "require": ["iss", "iat", "exp"]}
            claims = jwt.decode(token, _public_key(), algorithms=["RS256"], options=options)
        except jwt.InvalidTokenError:
            return Answer(401, {"message": "A JSON web token could not be decoded"})
        if str(claims["iss"]) not in (str(self._app().id), self._app().client_id):
            return Answer(401, {"message": "Integration not found"})
        if claims["exp"] > now + 600:
            message = "'Expiration time' claim ('exp') is too far in the future"
            return Answer(401, {"message": message})
        if claims["exp"] < now or claims["iat"] > now:
            return Answer(401, {"message": "'Issued at' claim ('iat') must be an Integer representing a past time"})
        return None

    def _app(self) -> FakeApp:
        return self.app or FakeApp(id=0, client_id="none")

    def _installations(self, asked: Asked) -> Answer:
        accounts = {one.installation: one.full_name.partition("/")[0] for one in self.repositories.values()}
        found = [
            {
                "id": number,
                "account": {"login": login, "id": 1, "type": "Organization"},
                "app_id": self._app().id,
                "repository_selection": "selected",
                "permissions": self._app().permissions,
                "suspended_at": None,
                "html_url": f"{self.url}/organizations/{login}/settings/installations/{number}",
            }
            for number, login in sorted(accounts.items())
        ]
        return self._app_refuse(asked) or self._page(asked, found)

    def _installation_of(self, asked: Asked, owner: str, name: str) -> Answer:
        found = self.repositories.get(f"{owner}/{name}")
        if refused := self._app_refuse(asked):
            return refused
        return _not_found() if found is None else Answer(200, {"id": found.installation, "account": {"login": owner}})

    def _installation_token(self, asked: Asked, number: str) -> Answer:
        if refused := self._app_refuse(asked):
            return refused
        mine = [one for one in self.repositories.values() if one.installation == int(number)]
        wanted = (asked.body or {}).get("repositories")
        names = {one.full_name.partition("/")[2] for one in mine}
        if not mine:
            return _not_found()
        if wanted is not None and not set(wanted) <= names:
            message = "There is at least one repository that does not exist or is not accessible to the parent."
            return Answer(422, {"message": message})
        asked_for = (asked.body or {}).get("permissions") or self._app().permissions
        if not set(asked_for) <= set(self._app().permissions):
            return Answer(422, {"message": "The permissions requested are not granted to this installation."})
        token = f"ghs_{secrets.token_hex(18)}"
        full = [one.full_name for one in mine if wanted is None or one.full_name.partition("/")[2] in wanted]
        ends = clock.now() + timedelta(hours=1)
        self.tokens[token] = FakeToken(dict(asked_for), full, int(number), ends)
        shown = {"token": token, "expires_at": _time(ends), "permissions": asked_for}
        return Answer(201, {**shown, "repositories": [self._repository_shown(self.repositories[one]) for one in full]})

    def _hook_deliveries(self, asked: Asked) -> Answer:
        newest_first = [one.shown() for one in reversed(self.deliveries)]
        return self._app_refuse(asked) or self._page(asked, newest_first, by_cursor=True)

    def _hook_delivery(self, asked: Asked, number: str) -> Answer:
        if refused := self._app_refuse(asked):
            return refused
        found = self.deliveries[int(number) - 1]
        body = json.dumps(found.payload).encode()
        headers = github_headers(found.event, body, found.guid, self._app().webhook_secret)
        return Answer(200, {**found.shown(), "request": {"headers": headers, "payload": found.payload}})

    def _hook_redeliver(self, asked: Asked, number: str) -> Answer:
        if refused := self._app_refuse(asked):
            return refused
        found = self.deliveries[int(number) - 1]
        status = self._send(found.event, found.payload, found.guid)
        again = replace(
            found, id=len(self.deliveries) + 1, delivered_at=clock.now(), status_code=status, redelivery=True
        )
        self.deliveries.append(again)
        return Answer(202, {})

    # Repositories as GitHub has them

    def _installation_repositories(self, asked: Asked) -> Answer:
        token = self.token_of(asked)
        if token is None or token.installation is None:
            return _bad_credentials()
        found = [self._repository_shown(self.repositories[name]) for name in token.repositories or []]
        return self._page(asked, found, member="repositories")

    def _user_repositories(self, asked: Asked) -> Answer:
        token = self.token_of(asked)
        if token is None:
            return _bad_credentials()
        found = [self._repository_shown(one) for one in self.repositories.values() if _may(token, one.full_name)]
        return self._page(asked, found)

    def _repository_get(self, asked: Asked, owner: str, name: str) -> Answer:
        return self._repository_refuse(asked, f"{owner}/{name}", "metadata") or Answer(
            200, self._repository_shown(self.repositories[f"{owner}/{name}"])
        )

    def _repository_refuse(self, asked: Asked, full_name: str, permission: str, level: str = "") -> Answer | None:
        """The refusal of a token that may not see the repository, or lacks the permission."""
        token = self.token_of(asked)
        if token is None:
            return _bad_credentials()
        if full_name not in self.repositories or not _may(token, full_name):
            return _not_found()
        if level and token.permissions.get(permission) != level:
            return Answer(403, NOT_GRANTED)
        return None

    def _repository_shown(self, repository: FakeRepository) -> dict[str, Any]:
        owner, _, name = repository.full_name.partition("/")
        return {
            "id": repository.id,
            "name": name,
            "full_name": repository.full_name,
            "owner": {"login": owner},
            "private": repository.private,
            "default_branch": repository.default_branch,
            "html_url": f"{self.url}/{repository.full_name}",
            "clone_url": f"{self.url}/{repository.full_name}.git",
            "ssh_url": f"git@127.0.0.1:{repository.full_name}.git",
            "archived": False,
            "permissions": {"pull": True},
        }

    def _compare(self, asked: Asked, owner: str, name: str, base: str, head: str) -> Answer:
        full_name = f"{owner}/{name}"
        if refused := self._repository_refuse(asked, full_name, "contents"):
            return refused
        found = self._between(full_name, base, head)
        if found is None:
            return _not_found()
        commits, files, behind = found
        status = "identical" if base == head else "behind" if behind and not commits else "ahead"
        shown = [
            {
                "sha": sha,
                "html_url": f"{self.url}/{full_name}/commit/{sha}",
                "commit": {"message": f"Change {sha[:7]}", "author": {"name": "Ada", "date": "2026-11-01T10:00:00Z"}},
                "author": {"login": "ada"},
            }
            for sha in commits
        ]
        body = {"status": status, "ahead_by": len(commits), "behind_by": behind, "total_commits": len(commits)}
        link = f"{self.url}/{full_name}/compare/{base}...{head}"
        return Answer(200, {**body, "html_url": link, "commits": shown, "files": [{"filename": one} for one in files]})

    def _between(self, full_name: str, base: str, head: str) -> tuple[list[str], list[str], int] | None:
        """Commits and paths from base to head, oldest first, and how many commits base has more."""
        repository = self.repositories[full_name]
        ids = {repository.default_branch: repository.commits[-1] if repository.commits else ""}
        base, head = ids.get(base, base), ids.get(head, head)
        if base not in repository.commits or head not in repository.commits:
            return None
        begin, end = repository.commits.index(base), repository.commits.index(head)
        commits = repository.commits[begin + 1 : end + 1]
        files = sorted({path for sha in commits for path in repository.changed.get(sha, [])})
        return commits, files, max(0, begin - end)

    def _pull_files(self, asked: Asked, owner: str, name: str, number: str) -> Answer:
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "pull_requests"):
            return refused
        paths = self.repositories[f"{owner}/{name}"].pull_files.get(int(number), [])
        return self._page(asked, [{"filename": path, "status": "modified"} for path in paths])

    # What GitHub knows of commits

    def _check_create(self, asked: Asked, owner: str, name: str) -> Answer:
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "checks", "write"):
            return refused
        if not asked.body.get("name") or not asked.body.get("head_sha"):
            return Answer(422, {"message": 'Invalid request. "name" and "head_sha" weren\'t supplied.'})
        if problem := _check_problem(asked.body):
            return problem
        run = {"id": len(self.check_runs) + 1, "repository": f"{owner}/{name}", "status": "queued", **asked.body}
        self.check_runs.append(run)
        return Answer(201, {**run, "html_url": f"{self.url}/{owner}/{name}/runs/{run['id']}"})

    def _check_update(self, asked: Asked, owner: str, name: str, number: str) -> Answer:
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "checks", "write"):
            return refused
        found = next((one for one in self.check_runs if one["id"] == int(number)), None)
        if found is None or found["repository"] != f"{owner}/{name}":
            return _not_found()
        if problem := _check_problem(asked.body):
            return problem
        # An update adds its annotations to those that are there.
        before = (found.get("output") or {}).get("annotations") or []
        found.update(asked.body)
        if asked.body.get("output"):
            found["output"] = {**asked.body["output"], "annotations": before + _annotations(asked.body)}
        return Answer(200, found)

    def _check_get(self, asked: Asked, owner: str, name: str, number: str) -> Answer:
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "checks"):
            return refused
        found = next((one for one in self.check_runs if one["id"] == int(number)), None)
        return Answer(200, _check_shown(found)) if found else _not_found()

    def _checks_of(self, asked: Asked, owner: str, name: str, sha: str) -> Answer:
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "checks"):
            return refused
        found = [one for one in self.check_runs if (one["repository"], one["head_sha"]) == (f"{owner}/{name}", sha)]
        if "check_name" in asked.query:
            found = [one for one in found if one["name"] == asked.query["check_name"]]
        return self._page(asked, [_check_shown(one) for one in reversed(found)], member="check_runs")

    def _status_create(self, asked: Asked, owner: str, name: str, sha: str) -> Answer:
        """GitHub's and Gitea's, which are alike."""
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "statuses", "write"):
            return refused
        states = {"error", "failure", "pending", "success", *({"warning"} if asked.path.startswith(GITEA) else ())}
        if asked.body.get("state") not in states or len(asked.body.get("description") or "") > 140:
            return Answer(422, {"message": "Validation Failed"})
        status = {"id": len(self.statuses) + 1, "repository": f"{owner}/{name}", "sha": sha, **asked.body}
        self.statuses.append(status)
        return Answer(201, status)

    def _statuses_of(self, asked: Asked, owner: str, name: str, sha: str) -> Answer:
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "statuses"):
            return refused
        found = [one for one in self.statuses if (one["repository"], one["sha"]) == (f"{owner}/{name}", sha)]
        return self._page(asked, list(reversed(found)))

    # GitLab

    def _projects(self, asked: Asked) -> Answer:
        token = self.token_of(asked)
        if token is None:
            return Answer(401, {"message": "401 Unauthorized"})
        found = [self._project_shown(one) for one in self.repositories.values() if _may(token, one.full_name)]
        return self._page(asked, found)

    def _project_get(self, asked: Asked, project: str) -> Answer:
        return self._project_refuse(asked, project) or Answer(200, self._project_shown(self.repositories[project]))

    def _project_refuse(self, asked: Asked, project: str, permission: str = "") -> Answer | None:
        token = self.token_of(asked)
        if token is None:
            return Answer(401, {"message": "401 Unauthorized"})
        if project not in self.repositories or not _may(token, project):
            return Answer(404, {"message": "404 Project Not Found"})
        if permission and token.permissions.get(permission) != "write":
            return Answer(403, {"message": "403 Forbidden"})
        return None

    def _project_shown(self, repository: FakeRepository) -> dict[str, Any]:
        return {
            "id": repository.id,
            "path_with_namespace": repository.full_name,
            "default_branch": repository.default_branch,
            "visibility": "private" if repository.private else "public",
            "web_url": f"{self.url}/{repository.full_name}",
            "http_url_to_repo": f"{self.url}/{repository.full_name}.git",
            "ssh_url_to_repo": f"git@127.0.0.1:{repository.full_name}.git",
            "archived": False,
        }

    def _project_compare(self, asked: Asked, project: str) -> Answer:
        if refused := self._project_refuse(asked, project):
            return refused
        found = self._between(project, asked.query["from"], asked.query["to"])
        if found is None:
            return Answer(404, {"message": "404 Ref Not Found"})
        commits = [
            {
                "id": sha,
                "short_id": sha[:8],
                "title": f"Change {sha[:7]}",
                "message": f"Change {sha[:7]}",
                "author_name": "Ada",
                "created_at": "2026-11-01T10:00:00.000Z",
                "web_url": f"{self.url}/{project}/-/commit/{sha}",
            }
            for sha in found[0]
        ]
        diffs = [{"old_path": path, "new_path": path} for path in found[1]]
        link = f"{self.url}/{project}/-/compare/{asked.query['from']}...{asked.query['to']}"
        return Answer(200, {"commits": commits, "diffs": diffs, "compare_timeout": False, "web_url": link})

    def _project_status(self, asked: Asked, project: str, sha: str) -> Answer:
        if refused := self._project_refuse(asked, project, "statuses"):
            return refused
        if asked.body.get("state") not in ("pending", "running", "success", "failed", "canceled", "skipped"):
            return Answer(400, {"message": {"state": ["does not have a valid value"]}})
        same = [
            one
            for one in self.statuses
            if (one["repository"], one["sha"], one.get("name")) == (project, sha, asked.body.get("name"))
        ]
        if same and same[-1]["state"] == asked.body["state"]:
            message = f"Cannot transition status via :run from :{asked.body['state']}"
            return Answer(400, {"message": message})
        status = {"id": len(self.statuses) + 1, "repository": project, "sha": sha, **asked.body}
        self.statuses.append(status)
        return Answer(201, status)

    def _project_statuses(self, asked: Asked, project: str, sha: str) -> Answer:
        if refused := self._project_refuse(asked, project):
            return refused
        return self._page(asked, [one for one in self.statuses if (one["repository"], one["sha"]) == (project, sha)])

    # Gitea, whose other endpoints are like GitHub's

    def _gitea_compare(self, asked: Asked, owner: str, name: str, base: str, head: str) -> Answer:
        if refused := self._repository_refuse(asked, f"{owner}/{name}", "contents"):
            return refused
        found = self._between(f"{owner}/{name}", base, head)
        if found is None:
            return _not_found()
        commits = [
            {
                "sha": sha,
                "html_url": f"{self.url}/{owner}/{name}/commit/{sha}",
                "commit": {"message": f"Change {sha[:7]}\n", "author": {"name": "Ada", "date": "2026-11-01T10:00:00Z"}},
                "author": {"login": "ada"},
                "files": [{"filename": path} for path in self.repositories[f"{owner}/{name}"].changed.get(sha, [])],
            }
            for sha in reversed(found[0])
        ]
        return Answer(200, {"total_commits": len(commits), "commits": commits})

    # Shared

    def may_fetch(self, asked: Asked) -> bool:
        """Whether the request for a repository of git has a token that may read it."""
        token = self.token_of(asked)
        full_name = asked.path.partition(".git/")[0].strip("/")
        return token is not None and _may(token, full_name) and "contents" in token.permissions

    def token_of(self, asked: Asked) -> FakeToken | None:
        """The token of a request, if it is one that counts."""
        header = asked.headers.get("authorization", "")
        kind, _, text = header.partition(" ")
        if kind.lower() == "basic":
            text = base64.b64decode(text).decode().partition(":")[2]
        token = self.tokens.get(asked.headers.get("private-token") or text)
        if token is None or (token.expires_at and token.expires_at <= clock.now()):
            return None
        return token

    def _page(self, asked: Asked, found: list[Any], *, member: str | None = None, by_cursor: bool = False) -> Answer:
        size = min(self.page_size, int(asked.query.get("per_page") or asked.query.get("limit") or 30))
        name = "cursor" if by_cursor else "page"
        page = int(asked.query.get(name) or 1)
        part = found[(page - 1) * size : page * size]
        headers = {"X-Total-Count": str(len(found))}
        if page * size < len(found):
            following = {**asked.query, name: str(page + 1)}
            headers["Link"] = f'<{self.url}{quote(asked.path)}?{urlencode(following)}>; rel="next"'
            headers["X-Next-Page"] = str(page + 1)
        return Answer(200, {"total_count": len(found), member: part} if member else part, headers)


def github_headers(event: str, body: bytes, guid: str, secret: str) -> dict[str, str]:
    """The headers with which GitHub delivers a webhook."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-Installation-Target-ID": "4711",
        "X-GitHub-Hook-Installation-Target-Type": "integration",
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}",
    }


_REPOSITORY = r"/repos/(?P<owner>[^/]+)/(?P<name>[^/]+)"
_RANGE = r"/compare/(?P<base>.+?)\.\.\.(?P<head>.+)"
_PROJECT = rf"{GITLAB}/projects/(?P<project>[^/]+)"
_ROUTES = [
    ("POST", r"/settings/apps/new", "_app_new"),
    ("POST", r"/organizations/(?P<owner>[^/]+)/settings/apps/new", "_app_new"),
    ("POST", rf"{GITHUB}/app-manifests/(?P<code>[^/]+)/conversions", "_app_convert"),
    ("GET", rf"{GITHUB}/app", "_app_get"),
    ("GET", rf"{GITHUB}/app/installations", "_installations"),
    ("POST", rf"{GITHUB}/app/installations/(?P<number>\d+)/access_tokens", "_installation_token"),
    ("GET", rf"{GITHUB}/app/hook/deliveries", "_hook_deliveries"),
    ("GET", rf"{GITHUB}/app/hook/deliveries/(?P<number>\d+)", "_hook_delivery"),
    ("POST", rf"{GITHUB}/app/hook/deliveries/(?P<number>\d+)/attempts", "_hook_redeliver"),
    ("GET", rf"{GITHUB}/installation/repositories", "_installation_repositories"),
    ("GET", rf"{GITHUB}/user/repos", "_user_repositories"),
    ("GET", rf"{GITHUB}{_REPOSITORY}", "_repository_get"),
    ("GET", rf"{GITHUB}{_REPOSITORY}/installation", "_installation_of"),
    ("GET", rf"{GITHUB}{_REPOSITORY}{_RANGE}", "_compare"),
    ("GET", rf"{GITHUB}{_REPOSITORY}/pulls/(?P<number>\d+)/files", "_pull_files"),
    ("POST", rf"{GITHUB}{_REPOSITORY}/check-runs", "_check_create"),
    ("PATCH", rf"{GITHUB}{_REPOSITORY}/check-runs/(?P<number>\d+)", "_check_update"),
    ("GET", rf"{GITHUB}{_REPOSITORY}/check-runs/(?P<number>\d+)", "_check_get"),
    ("GET", rf"{GITHUB}{_REPOSITORY}/commits/(?P<sha>[^/]+)/check-runs", "_checks_of"),
    ("POST", rf"{GITHUB}{_REPOSITORY}/statuses/(?P<sha>[^/]+)", "_status_create"),
    ("GET", rf"{GITHUB}{_REPOSITORY}/commits/(?P<sha>[^/]+)/statuses", "_statuses_of"),
    ("GET", rf"{GITLAB}/projects", "_projects"),
    ("GET", _PROJECT, "_project_get"),
    ("GET", rf"{_PROJECT}/repository/compare", "_project_compare"),
    ("POST", rf"{_PROJECT}/statuses/(?P<sha>[^/]+)", "_project_status"),
    ("GET", rf"{_PROJECT}/repository/commits/(?P<sha>[^/]+)/statuses", "_project_statuses"),
    ("GET", rf"{GITEA}/user/repos", "_user_repositories"),
    ("GET", rf"{GITEA}{_REPOSITORY}", "_repository_get"),
    ("GET", rf"{GITEA}{_REPOSITORY}{_RANGE}", "_gitea_compare"),
    ("POST", rf"{GITEA}{_REPOSITORY}/statuses/(?P<sha>[^/]+)", "_status_create"),
    ("GET", rf"{GITEA}{_REPOSITORY}/statuses/(?P<sha>[^/]+)", "_statuses_of"),
    ("GET", rf"{GITEA}{_REPOSITORY}/pulls/(?P<number>\d+)/files", "_pull_files"),
]


def _may(token: FakeToken, full_name: str) -> bool:
    return token.repositories is None or full_name in token.repositories


def _check_problem(body: dict[str, Any]) -> Answer | None:
    """GitHub's answer to a check run that breaks its rules."""
    if body.get("status") == "completed" and not body.get("conclusion"):
        return Answer(422, {"message": 'Invalid request. "conclusion" wasn\'t supplied.'})
    output = body.get("output")
    if output is not None and not (output.get("title") and output.get("summary")):
        return Answer(422, {"message": 'Invalid request. "title" and "summary" are needed.'})
    if len(_annotations(body)) > 50:
        return Answer(422, {"message": "Invalid request. No more than 50 annotations per request."})
    if len(((body.get("output") or {}).get("summary") or "").encode()) > 65535:
        return Answer(422, {"message": "Invalid request. Summary is too long."})
    return None


def _check_shown(run: dict[str, Any]) -> dict[str, Any]:
    """A check run as GitHub shows it: its annotations are counted, and not in it."""
    output = {**(run.get("output") or {}), "annotations_count": len(_annotations(run))}
    output.pop("annotations", None)
    return {**run, "output": output}


def _annotations(body: dict[str, Any]) -> list[Any]:
    return list((body.get("output") or {}).get("annotations") or [])


def _not_found() -> Answer:
    return Answer(404, {"message": "Not Found"})


def _bad_credentials() -> Answer:
    return Answer(401, {"message": "Bad credentials"})


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Handler(BaseHTTPRequestHandler):
    provider: FakeProvider
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.provider.git_folder is not None and ".git/" in self.path:
            self._git(self.provider.git_folder, raw)
            return
        # The path stays encoded until its parts are known: GitLab has names of projects with %2F in one part.
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.provider.answer(Asked(self.command, url.path, query, headers, self._body(raw)))
        if answer.lost:
            self.close_connection = True
            return
        content = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _git(self, folder: Path, raw: bytes) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, path, {}, headers, None)
        if self.provider.may_fetch(asked):
            given, content = git_answer(folder, self, path, query, raw)
            status = int(given.pop("Status", "200 OK").split()[0])
        else:
            status, content, given = 401, b"", {"WWW-Authenticate": 'Basic realm="GitHub"'}
        self.send_response(status)
        for name, value in {**given, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _body(self, raw: bytes) -> Any:
        if self.headers.get_content_type() == "application/x-www-form-urlencoded":
            return {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        return json.loads(raw) if raw else None

    def log_message(self, *args: object) -> None:
        """Not worth a line in the tests' output."""


@contextmanager
def running_fake_provider(provider: FakeProvider | None = None) -> Iterator[FakeProvider]:
    """Serve a provider on loopback, a new one or this one."""
    provider = provider or FakeProvider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield provider
    server.shutdown()
    server.server_close()
