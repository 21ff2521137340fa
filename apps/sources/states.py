"""What connections to providers of repositories and their events can be."""

from enum import StrEnum


class ProviderName(StrEnum):
    """A kind of server that has repositories. Each has a folder of this name in `apps.sources.providers`."""

    GITHUB = "github"
    GITLAB = "gitlab"
    # Also Forgejo.
    GITEA = "gitea"
    # Anything that sends webhooks as Standard Webhooks has them.
    STANDARD = "standard"


class EventKind(StrEnum):
    """What a provider tells about a repository."""

    PUSH = "push"
    TAG = "tag"
    PULL_REQUEST = "pull_request"
    CHECK_RERUN = "check_rerequested"
    INSTALLATION = "installation"
    REPOSITORY_RENAMED = "repository_renamed"


class DeliveryState(StrEnum):
    """How far a delivery is."""

    # To be worked off.
    PENDING = "pending"
    # It started runs, or there was none to start.
    DONE = "done"
    # It was signed, but cannot be read.
    REFUSED = "refused"
    # A run that it asks for could not be started.
    FAILED = "failed"


TROUBLE = frozenset({DeliveryState.REFUSED, DeliveryState.FAILED})
