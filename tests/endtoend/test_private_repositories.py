"""A private repository is fetched with a token of the GitHub App, which is then found nowhere."""

import json
import logging
from pathlib import Path

import pytest
from django.conf import settings

from apps.jobs.services import logs_archive
from apps.sources.services.github_apps import repository_pipeline_create
from tests.conftest import OPERATOR
from tests.emulator import items_read
from tests.endtoend.conftest import Product
from tests.endtoend.test_secrets import stored
from tests.repositories import BareRepository
from tests.sources.conftest import app_connection
from tests.sources.conftest import provider as provider
from tests.sources.fake_provider import FakeProvider

FILE = b"steps:\n  - run: cat name; git config --list; env; git fetch 2>&1 || echo no access"


def test_a_private_repository_is_fetched_with_a_token_of_the_app_that_is_stored_nowhere(
    product: Product, provider: FakeProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture, emulator: str
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.git_folder = tmp_path / "origin"
    (provider.git_folder / "acme").mkdir(parents=True)
    provider.repository_add("acme/shop")
    bare = BareRepository(provider.git_folder / "acme" / "shop.git")
    bare.commit("main", {".hybrid-ci.yml": FILE, "name": b"the shop\n"})
    app_connection(provider).save()
    repository_pipeline_create(actor=OPERATOR, connection_id="github", repository="acme/shop")

    agent = product.start_agent("one")
    job_id = product.queue(pipeline="shop")
    job = product.until_ended(job_id)
    log = product.log(job_id)
    assert (job["status"], job["error_message"]) == ("completed", None), log
    assert b"the shop\n" in log
    assert b"no access\n" in log

    # One token for this repository, which may read it and nothing else.
    (given,) = [one for one in provider.tokens.values() if one.permissions == {"contents": "read"}]
    assert given.repositories == ["acme/shop"]
    logs_archive()
    searched = {"database": items_read(emulator), "server's log": caplog.text.encode()}
    searched |= {"job": json.dumps(product.job(job_id)).encode(), "log": log, "agent's log": agent.log.read_bytes()}
    searched |= dict(stored(agent.state_dir)) | dict(stored(Path(settings.LOG_DIR)))
    found = [
        place for place, content in searched.items() if any(token.encode() in content for token in provider.tokens)
    ]
    assert found == []
    assert "connection.token_delivered" in product.admin.get("/audit").text
