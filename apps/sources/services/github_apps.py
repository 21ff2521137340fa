"""Creating a GitHub App by GitHub's manifest flow, and pipelines from the repositories that a connection reaches.

A browser posts a manifest to GitHub, GitHub makes the app and sends the browser back with a code, and the code is
exchanged for the app's secrets. A state ties the way back to the browser that began: `AppBeginning.kept` stays in its
session, and is taken out of it when the browser comes back.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from apps.pipelines.policies import pipeline_save_require
from apps.pipelines.selectors import Pipeline
from apps.pipelines.services import pipeline_save
from apps.sources.models import Connection
from apps.sources.policies import connections_manage_require
from apps.sources.providers.calls import provider_url_require
from apps.sources.providers.github.app import (
    NAME_CHARACTERS,
    Installation,
    NewApp,
    app_convert,
    app_manifest,
    installations,
)
from apps.sources.providers.interface import Provider, Repository, provider_has, provider_of
from apps.sources.providers.names import repository_require
from apps.sources.selectors import CONNECTION_ID, connection_find, connection_get
from apps.sources.services.connections import connection_create
from apps.sources.states import ProviderName
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, Unavailable, Unprocessable
from controlplane.lib.frozen import frozen

# GitHub's codes live for an hour.
_STATE_LIVES = timedelta(hours=1)
_PUBLIC_WEB, _PUBLIC_API = "https://github.com", "https://api.github.com"
_ORGANISATION = re.compile(r"(?!-)[A-Za-z0-9-]{1,39}(?<!-)")
_NAME = re.compile(rf"[^\x00-\x1f\x7f]{{1,{NAME_CHARACTERS}}}")
_TRIES = 3


@frozen
class AppBeginning:
    """What a browser posts: `manifest` to `url`. `kept` stays with the session, and has no secret of the app."""

    url: str
    manifest: Mapping[str, Any]
    kept: Mapping[str, str]


def app_begin(
    *,
    actor: Actor,
    base_url: str,
    redirect_url: str,
    setup_url: str,
    connection_id: str = "github",
    name: str | None = None,
    organisation: str | None = None,
    web_url: str = _PUBLIC_WEB,
) -> AppBeginning:
    """Begin to create an app at github.com or at an enterprise host, for the user or for an organisation.

    `base_url` is the control plane's own address, which GitHub must reach. Raises Forbidden; InvalidInput; and Conflict
    with the code ``name_taken`` if there is a connection with this id.
    """
    connections_manage_require(actor)
    if not CONNECTION_ID.fullmatch(connection_id):
        message = "must be 1 to 63 small letters, digits and -, beginning with a letter or digit"
        raise InvalidInput.field("connection_id", message)
    if organisation and not _ORGANISATION.fullmatch(organisation):
        raise InvalidInput.field("organisation", "must be the name of an organisation as its address has it")
    name = name or f"CI of {urlsplit(base_url).hostname}"[:NAME_CHARACTERS]
    if not _NAME.fullmatch(name):
        raise InvalidInput.field("name", f"must have at most {NAME_CHARACTERS} characters that can be printed")
    provider_url_require(web_url, field="web_url")
    if connection_find(connection_id) is not None:
        message = f"There is already a connection {connection_id}. Choose another id."
        raise Conflict(message, code=ErrorCode.NAME_TAKEN, errors=[{"field": "connection_id", "message": message}])
    state = secrets.token_urlsafe(32)
    owner = f"organizations/{organisation}/" if organisation else ""
    manifest = app_manifest(
        name=name,
        base_url=base_url,
        webhook_url=f"{base_url}/webhooks/github",
        redirect_url=redirect_url,
        setup_url=setup_url,
    )
    kept = {
        "state": state,
        "connection_id": connection_id,
        "web_url": web_url,
        "until": clock.timestamp(clock.now() + _STATE_LIVES),
    }
    return AppBeginning(f"{web_url}/{owner}settings/apps/new?{urlencode({'state': state})}", manifest, kept)


def app_complete(*, actor: Actor, kept: Mapping[str, str] | None, state: str, code: str) -> Connection:
    """Exchange the code for the app, and store it as a connection with its secrets encrypted.

    `kept` is what the browser's session had, and has no more. Raises Forbidden; InvalidInput for ``state`` or ``code``;
    and Unavailable, after which the app may exist at GitHub alone.
    """
    connections_manage_require(actor)
    if not kept or not hmac.compare_digest(kept["state"].encode(), state.encode(errors="replace")):
        message = "must be that of the page where you began, which serves once. Begin again"
        raise InvalidInput.field("state", message)
    if clock.parse_timestamp(kept["until"]) < clock.now():
        raise InvalidInput.field("state", "must be less than an hour old. Begin again")
    web_url = kept["web_url"]
    api_url = github_api_url(web_url)
    app = app_convert(api_url=api_url, code=code)
    # From here on the app exists, and GitHub does not give out its secrets again.
    connection_id = kept["connection_id"]
    for number in range(_TRIES):
        try:
            return _connection(actor, app, connection_id, api_url=api_url, web_url=web_url)
        except Conflict as conflict:
            if conflict.code != ErrorCode.NAME_TAKEN:
                raise
            known = connection_find(connection_id)
            if known is not None and (known.app_id, known.api_url) == (app.app_id, api_url):
                # It was written, and the answer was lost.
                return known
            # Another user has taken the id meanwhile.
            connection_id = f"{kept['connection_id'][:40]}-{app.app_id}"
        except Unavailable:
            if number == _TRIES - 1:
                raise
    raise Unavailable(f"The GitHub App {app.slug} exists, but could not be stored. Delete it there and begin again.")


def _connection(actor: Actor, app: NewApp, connection_id: str, *, api_url: str, web_url: str) -> Connection:
    return connection_create(
        actor=actor,
        connection_id=connection_id,
        provider=ProviderName.GITHUB,
        name=app.name,
        api_url=api_url,
        web_url=web_url,
        webhook_secret=app.webhook_secret,
        private_key=app.private_key,
        app_id=app.app_id,
        app_slug=app.slug,
        facts={name: value for name, value in (("app_url", app.url), ("owner", app.owner)) if value},
    ).connection


def github_api_url(web_url: str) -> str:
    """Where the API is of github.com, of GitHub Enterprise Cloud with data residency, or of an enterprise server."""
    host = urlsplit(web_url).hostname or ""
    if web_url == _PUBLIC_WEB:
        return _PUBLIC_API
    return f"https://api.{host}" if host.endswith(".ghe.com") else f"{web_url}/api/v3"


def repository_pipeline_create(
    *,
    actor: Actor,
    connection_id: str,
    repository: str,
    name: str | None = None,
    default_ref: str | None = None,
) -> Pipeline:
    """Make a pipeline from a repository that the connection reaches: bound to it, with the file in the repository.

    Without `name` it has that of the repository, and without `default_ref` its default branch.

    Raises Forbidden; NotFound for the connection; InvalidInput for what is not a repository that the connection
    reaches; Conflict with the code ``name_taken``; Unavailable and RetryLater when the provider does not answer.
    """
    pipeline_save_require(actor)
    connection = connection_get(connection_id)
    repository_require(repository)
    found = _functions(connection).repository_get(connection, repository)
    if found is None:
        message = "must be a repository that the connection reaches. Install the app there, or check the token"
        raise InvalidInput.field("repository", message)
    return pipeline_save(
        actor=actor,
        name=name or pipeline_name(found.full_name),
        repository=found.clone_url,
        default_ref=default_ref or found.default_branch or "main",
        definition=None,
        source=connection_id,
        source_repository=found.full_name,
        revision=0,
    ).pipeline


def connection_repositories(connection: Connection) -> list[Repository]:
    """The repositories that the connection reaches, as its provider says now.

    Raises Unprocessable for a provider that lists none, ProviderRefused, Unavailable and RetryLater.
    """
    return _functions(connection).repositories(connection)


def lists_repositories(connection: Connection) -> bool:
    """Whether the connection may list repositories: its provider can, and it has an app or a token."""
    has_access = bool(connection.app_id or connection.encrypted_token)
    return has_access and provider_has(connection.provider, "repositories")


def connection_installations(connection: Connection) -> list[Installation]:
    """Where the connection's GitHub App is installed; none if it has no app. Raises as `connection_repositories`."""
    return installations(connection) if connection.app_id else []


def _functions(connection: Connection) -> Provider:
    """The provider's functions, if it lists repositories."""
    if not provider_has(connection.provider, "repositories"):
        message = f"Connections of the kind {connection.provider} list no repositories."
        raise Unprocessable(message, code=ErrorCode.SOURCE_REFUSED)
    return provider_of(connection.provider)


def pipeline_name(full_name: str) -> str:
    """The name for a pipeline of the repository: the last part of its full name, as names of pipelines are written."""
    return re.sub(r"[^a-z0-9_-]+", "-", full_name.rpartition("/")[2].lower()).lstrip("-_")[:63] or "pipeline"
