"""Connections and the provider behind them, for tests of sources."""

from collections.abc import Iterator
from typing import Any

import pytest

from apps.sources.models import Connection
from apps.sources.models.connections import secret_context
from apps.sources.providers.calls import pauses_forget
from apps.sources.providers.github.app import signatures_forget
from apps.sources.providers.github.tokens import tokens_forget
from controlplane.lib import clock
from controlplane.lib.envelope import encrypt
from tests.sources.fake_provider import FakeProvider, private_key, running_fake_provider

API_PATHS = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider, of which this process remembers nothing."""
    with running_fake_provider() as provider:
        yield provider
    pauses_forget()
    tokens_forget()
    signatures_forget()


def connection_of(provider: FakeProvider, kind: str = "github", **members: Any) -> Connection:
    """A connection to the provider, not stored; `token`, `private_key` and `webhook_secret` are encrypted."""
    connection_id = members.pop("connection_id", kind)
    now = clock.timestamp(clock.now())
    made = Connection(
        connection_id=connection_id,
        provider=kind,
        name=kind.title(),
        api_url=f"{provider.url}{API_PATHS[kind]}",
        web_url=provider.url,
        created_at=now,
        created_by="Ada",
        changed_at=now,
        changed_by="Ada",
    )
    for name in ("token", "private_key", "webhook_secret"):
        if value := members.pop(name, None):
            context = secret_context(connection_id, name)
            setattr(made, f"encrypted_{name}", encrypt(value.encode(), context=context))
    for name, value in members.items():
        setattr(made, name, value)
    return made


def app_connection(provider: FakeProvider, **members: Any) -> Connection:
    """A connection with the provider's GitHub App."""
    app = provider.app or provider.app_add()
    given = {"app_id": str(app.id), "app_slug": app.slug, "webhook_secret": app.webhook_secret, **members}
    return connection_of(provider, **{"private_key": private_key(), **given})
