"""What was tested is what ships, and an older commit never goes over a newer one."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from controlplane.deployment.live import Live
from controlplane.deployment.promotion import forward_require, package_require
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from tests.commands import manage
from tests.deployment.conftest import FUNCTION, settings_change
from tests.zappa.test_deploy_command import COMPLETE


def test_a_package_with_another_digest_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "lambda.zip"
    package.write_bytes(b"tested")
    digest = hashlib.sha256(b"tested").hexdigest()
    assert package_require(package, digest) == package_require(package, digest.upper()) == package
    assert package_require(package, None) == package
    package.write_bytes(b"another")
    with pytest.raises(InfrastructureError, match=f"has the digest .*, not {digest}. Nothing was deployed"):
        package_require(package, digest)


def test_a_package_that_is_not_there_stops_the_deployment_before_anything_else(tmp_path: Path) -> None:
    done = manage("deploy", "--stage", "staging", "--package", f"{tmp_path}/lambda.zip", **COMPLETE)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"The package {tmp_path}/lambda.zip cannot be read: No such file or directory" in done.stderr


class History:
    """A repository with commits that follow each other, and one beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")
        self.first, self.second = self.commit("first"), self.commit("second")
        self.git("checkout", "--quiet", "-b", "beside", self.first)
        self.beside = self.commit("beside")

    def commit(self, subject: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", f"--message={subject}")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def bring_live(client: Any, description: str) -> None:
    settings_change(client, description)
    version = client.publish_version(FunctionName=FUNCTION, Description=description)["Version"]
    client.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=version)


def test_an_older_commit_never_goes_over_a_newer_one(account: Account, function: Any, history: History) -> None:
    live = Live("staging", account)
    # The versions of the fixture name no commit.
    forward_require(live, history.folder)
    bring_live(function, f"0.1.0 {history.second[:12]}")
    for refused in (history.first, history.beside):
        history.git("checkout", "--quiet", refused)
        with pytest.raises(InfrastructureError, match="would replace newer code by older"):
            forward_require(live, history.folder)
    history.git("checkout", "--quiet", "main")
    forward_require(live, history.folder)
    history.commit("third")
    forward_require(live, history.folder)
    # Of a checkout with changes; and a commit that is not known here.
    bring_live(function, f"0.1.0 {history.first[:12]}+")
    forward_require(live, history.folder)
    bring_live(function, f"0.1.0 {'0' * 12}")
    with pytest.raises(InfrastructureError, match="is no ancestor of this commit"):
        forward_require(live, history.folder)


def test_the_first_deployment_replaces_nothing(account: Account, history: History) -> None:
    forward_require(Live("production", account), history.folder)
