"""From a push to production: a hook reports it, checks appear, a user approves in a terminal, and others hear of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apps.notifications.states import Occasion
from controlplane import schedules
from tests.cli.conftest import hci
from tests.endtoend.conftest import Product, wait_for
from tests.notifications.conftest import hook as hook
from tests.notifications.conftest import rule_made, target_made
from tests.repositories import BareRepository
from tests.sources.conftest import connection_of
from tests.sources.conftest import provider as provider
from tests.sources.fake_provider import FakeProvider
from tests.webhooks import Receiver

FILE = b"""\
on: {push: {branches: [main]}}
jobs:
  test:
    steps:
      - run: test "$(cat cart)" = full
  release:
    needs: test
    environment: production
    steps:
      - run: cp cart "LIVE"
"""

# What a server of git repositories does after each push. The signature is Gitea's.
HOOK = """\
#!{python}
import hashlib, hmac, json, sys, urllib.request
for before, after, ref in map(str.split, sys.stdin):
    body = json.dumps({{
        "ref": ref, "before": before, "after": after, "total_commits": 1,
        "commits": [{{"id": after, "message": "Fill the cart", "added": ["cart"], "removed": [], "modified": []}}],
        "head_commit": {{"id": after, "message": "Fill the cart"}},
        "repository": {{"id": 1, "full_name": "acme/shop", "default_branch": "main",
                        "html_url": "{url}", "clone_url": "{url}", "ssh_url": "{url}"}},
        "pusher": {{"login": "grace"}}, "sender": {{"login": "grace"}},
    }}).encode()
    headers = {{"Content-Type": "application/json", "X-Gitea-Event": "push", "X-Gitea-Delivery": after,
               "X-Gitea-Signature": hmac.new(b"{secret}", body, hashlib.sha256).hexdigest()}}
    urllib.request.urlopen(urllib.request.Request("{server}/webhooks/gitea/forge", body, headers), timeout=20)
"""
SECRET = "the-secret-of-the-hook-of-the-story"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Grace", "-c", "user.email=grace@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, timeout=60)
    return done.stdout.decode().strip()


def pushed(bare: BareRepository, folder: Path, cart: str) -> str:
    """Push a commit, as a developer does. Returns its id."""
    if not folder.exists():
        git(bare.path.parent, "clone", "--quiet", str(bare.path), str(folder))
    (folder / "cart").write_text(cart)
    git(folder, "add", "cart")
    git(folder, "commit", "--quiet", "-m", "Fill the cart")
    git(folder, "push", "--quiet", "origin", "HEAD:main")
    return git(folder, "rev-parse", "HEAD")


def swept() -> bool:
    """The sweep of each minute has run, which is all that sends something."""
    schedules.sweep({}, None)
    return True


def test_a_push_gets_to_production_once_a_user_has_approved_it(
    product: Product, provider: FakeProvider, hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, bare = tmp_path / "live", BareRepository(tmp_path / "shop.git")
    bare.commit("main", {".hybrid-ci.yml": FILE.replace(b"LIVE", str(live).encode()), "cart": b"empty"})
    script = bare.path / "hooks" / "post-receive"
    script.parent.mkdir(exist_ok=True)
    script.write_text(HOOK.format(python=sys.executable, url=bare.url, secret=SECRET, server=product.server))
    script.chmod(0o755)
    provider.repository_add("acme/shop")
    connection_of(provider, "gitea", connection_id="forge", webhook_secret=SECRET, token=provider.token_add()).save()
    rule_made(target_made(hook), Occasion.WAITING_FOR_APPROVAL, Occasion.DEPLOYED)
    gates = {"name": "production", "approvals": 1, "approver_roles": ["admin"], "requester_may_not_approve": True}
    assert product.admin.post("/environments", json=gates).status_code == 201
    bound = {"source": "forge", "source_repository": "acme/shop", "repository": bare.url, "default_ref": "main"}
    assert product.admin.put("/pipelines/shop", json=bound).status_code == 201
    product.start_agent("one", deployment_targets=["production"])

    commit = pushed(bare, tmp_path / "work", "full")

    def asked(path: str) -> dict[str, Any]:
        return dict(product.client.get(path).json())

    (run,) = wait_for(lambda: asked("/runs?pipeline=shop&event=push")["runs"])
    waiting = "/deployments?environment=production&status=waiting"
    (deployment,) = wait_for(lambda: swept() and asked(waiting)["deployments"])
    assert (run["commit"], deployment["commit"], live.exists()) == (commit, commit, False)
    (message,) = wait_for(lambda: swept() and hook.requests)
    notice = json.loads(message.body)
    assert notice["type"] == "deployment.waiting"
    assert commit[:7].encode() in message.body

    monkeypatch.setenv("HCI_SERVER", product.server)
    monkeypatch.setenv("HCI_TOKEN", str(product.admin.token))
    approved = hci("approve", deployment["deployment_id"], "--comment", "Ship it")
    assert approved.code == 0, approved.err
    path = f"/runs/{run['run_id']}"
    wait_for(lambda: swept() and asked(path)["status"] == "completed")
    assert live.read_text() == "full"
    wait_for(lambda: swept() and len(hook.requests) == 2)
    assert json.loads(hook.requests[1].body)["type"] == "deployment.completed"

    def shown() -> dict[str, str]:
        """The newest status of each context at the commit, as the provider's page shows it."""
        return {one["context"]: one["state"] for one in provider.statuses if one["sha"] == commit}

    wait_for(lambda: swept() and len(shown()) == 3 and set(shown().values()) == {"success"})
    assert asked("/environments/production")["live"][0]["commit"] == commit
