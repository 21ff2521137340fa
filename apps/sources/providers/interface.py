"""What the control plane asks of a provider of repositories, and the values that go in and out.

A provider is a package of this folder. Its functions are in modules by subject, which are imported with their first
use. A function that a provider cannot have is missing: `provider_has` asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from datetime import datetime
from importlib import import_module
from typing import Any, Protocol, cast

from apps.sources.models import Connection
from apps.sources.states import EventKind, ProviderName
from controlplane.lib.frozen import frozen

__all__ = [
    "Annotation",
    "Check",
    "CheckConclusion",
    "CloneCredentials",
    "Comparison",
    "Connection",
    "MissedDelivery",
    "Provider",
    "Repository",
    "SourceEvent",
    "WebhookRequest",
    "event_as_json",
    "event_from_json",
    "provider_has",
    "provider_of",
]

# What ends a check: ``success``, ``failure``, ``cancelled``, ``timed_out``, ``skipped``, ``neutral`` or
# ``action_required``; None while it is queued or in progress.
CheckConclusion = str | None


@frozen
class WebhookRequest:
    """A request as it arrived. The names of `headers` are in lower case; `body` is as it was sent."""

    headers: Mapping[str, str]
    body: bytes


@frozen
class SourceEvent:
    """One event of a repository, in the same form from each provider. Texts are shortened to what is stored.

    `repository` is the full name, as ``acme/shop``. Commits are hashes, and None where there is none (of a ref that was
    created or deleted). `changed_paths` is None where the provider does not say all of them. Of a pull request, `ref`
    is the ref under which the repository itself has its head, `before` and `after` are its commits before and after a
    synchronize, `branch` is the branch of the change, in `head_repository`, and `base` the branch that it is for.
    `delivery_id` is the provider's id of the delivery. `at` is when it happened, by the provider's clock.
    """

    kind: EventKind
    repository: str
    delivery_id: str
    # The provider's own id of the repository, which a new name does not change.
    repository_id: str | None = None
    clone_url: str | None = None
    web_url: str | None = None
    default_branch: str | None = None
    ref: str | None = None
    before: str | None = None
    after: str | None = None
    branch: str | None = None
    tag: str | None = None
    changed_paths: Sequence[str] | None = None
    # opened, synchronize, reopened, closed; created or deleted of a ref; the provider's word of anything else.
    action: str | None = None
    # Of a pull request.
    number: int | None = None
    base: str | None = None
    base_commit: str | None = None
    head_repository: str | None = None
    is_fork: bool = False
    # Of a push: it removed commits.
    is_forced: bool = False
    author: str | None = None
    # Who did it: the identity with which they would sign in here (`apps.accounts.identities.ProviderIdentity.key`), and
    # the e-mail address that the provider gives.
    sender_identity: str | None = None
    sender_email: str | None = None
    # The first line of the commit's message, or the title of the pull request.
    title: str | None = None
    # The whole message, shortened: it may ask to skip the run.
    message: str | None = None
    url: str | None = None
    # Of a check: our own id of it, as `Check.external_id`; null if all checks of the commit are meant.
    external_id: str | None = None
    # Of a renamed repository.
    old_repository: str | None = None
    # Of an installation, and of each event of a GitHub App.
    installation_id: str | None = None
    repositories_added: Sequence[str] = ()
    repositories_removed: Sequence[str] = ()
    at: datetime | None = None


@frozen
class Annotation:
    """A remark at lines of a file. `level` is ``notice``, ``warning`` or ``failure``."""

    path: str
    line: int
    message: str
    title: str | None = None
    end_line: int | None = None
    level: str = "failure"


@frozen
class Check:
    """One check of a commit, as it is now. `external_id` is ours, and `provider_id` the provider's once it has one.

    `status` is ``queued``, ``in_progress`` or ``completed``. `summary` and `text` are Markdown. `is_new` says that the
    check begins anew after it had ended, and `maybe_sent` that the answer to an earlier call about it may be lost.
    `ref` is what the run was for: a branch, a tag, or the ref of a pull request from another repository. `phase`
    divides a status further than providers do: a check in another phase is sent again, since its texts say more.
    """

    repository: str
    commit: str
    name: str
    external_id: str
    status: str
    conclusion: CheckConclusion = None
    title: str = ""
    summary: str = ""
    text: str = ""
    details_url: str | None = None
    annotations: Sequence[Annotation] = ()
    started_at: str | None = None
    completed_at: str | None = None
    provider_id: str | None = None
    ref: str | None = None
    phase: str = ""
    is_new: bool = False
    maybe_sent: bool = False


@frozen
class Comparison:
    """What is in `head` and not in `base`. `paths` and `commits` are None where the provider does not say all of them.

    Each commit is ``{"commit", "author", "message", "url"}``, the newest last.
    """

    ahead_by: int
    behind_by: int
    commits: Sequence[Mapping[str, str]] | None
    paths: Sequence[str] | None
    url: str | None = None


@frozen
class CloneCredentials:
    """With what an agent fetches a private repository: user name and password over https, or a private key over SSH.

    `expires_at` is None if they do not expire.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


@frozen
class Repository:
    """A repository that a connection reaches."""

    full_name: str
    clone_url: str
    web_url: str | None = None
    ssh_url: str | None = None
    default_branch: str | None = None
    is_private: bool = True
    repository_id: str | None = None
    installation_id: str | None = None


@frozen
class MissedDelivery:
    """A delivery that the provider made and we did not take.

    `delivery_id` is that of its headers, `provider_id` the one by which `delivery_request` asks for it.
    """

    delivery_id: str
    at: datetime
    provider_id: str


class Provider(Protocol):
    """The functions of a provider. Those that ask its server raise Unavailable, or say when to try again."""

    # The headers of which a signed request has one, in lower case.
    SIGNATURES: Sequence[str]

    def verify(self, connection: Connection, request: WebhookRequest) -> None:
        """Raises Forbidden unless the provider has signed the request. Nothing of the body is parsed before."""

    def delivery_id(self, request: WebhookRequest) -> str | None:
        """The provider's id of the delivery, which a repetition has, too; None if it sends none."""

    def kind_of(self, request: WebhookRequest) -> str:
        """The provider's word for the kind of event; "" if it sends none. Raises InvalidInput."""

    def events(self, request: WebhookRequest) -> list[SourceEvent]:
        """The events of a request that was verified; none for a kind that does not matter. Raises InvalidInput."""

    def check_send(self, connection: Connection, check: Check) -> str | None:
        """Show the check at its commit. Returns the provider's id of it. Sending it again changes nothing."""

    def compare(self, connection: Connection, repository: str, base: str, head: str) -> Comparison:
        """What is in `head` and not in `base`: commits, branches or tags of the repository."""

    def clone_credentials(self, connection: Connection, repository: str) -> CloneCredentials | None:
        """With what an agent fetches the repository; None if the connection has nothing for it."""

    def repositories(self, connection: Connection) -> list[Repository]:
        """The repositories that the connection reaches."""

    def repository_get(self, connection: Connection, repository: str) -> Repository | None:
        """The repository of this full name, or None if the connection does not reach it."""

    def missed_deliveries(self, connection: Connection, since: datetime) -> list[MissedDelivery]:
        """The deliveries since then that failed, as the provider says, the oldest first."""

    def delivery_request(self, connection: Connection, provider_id: str) -> WebhookRequest:
        """The request of a delivery that has failed. It is not signed: we have asked for it ourselves."""


def event_as_json(event: SourceEvent) -> dict[str, Any]:
    """The event as it is stored, without what is empty."""
    members = {one.name: getattr(event, one.name) for one in fields(event)}
    said = {name: value for name, value in members.items() if value not in (None, (), False, "")}
    if event.changed_paths is not None:
        said["changed_paths"] = list(event.changed_paths)
    return said | ({"at": event.at.isoformat()} if event.at else {})


def event_from_json(members: Mapping[str, Any]) -> SourceEvent:
    """A stored event. What this version does not know is left out."""
    known = {one.name for one in fields(SourceEvent)}
    said = {name: value for name, value in members.items() if name in known}
    at = said.pop("at", None)
    said["repository"] = said.get("repository", "")
    return SourceEvent(**{**said, "kind": EventKind(said["kind"]), "at": datetime.fromisoformat(at) if at else None})


def provider_of(name: str) -> Provider:
    """The provider of that name. Raises ValueError for another name than those of `ProviderName`."""
    return cast("Provider", import_module(f"apps.sources.providers.{ProviderName(name).value}"))


def provider_has(name: str, function: str) -> bool:
    """Whether the provider of that name has the function."""
    functions: Mapping[str, Sequence[str]] = cast("Any", provider_of(name)).FUNCTIONS
    return any(function in names for names in functions.values())
