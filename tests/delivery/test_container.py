"""The container, as far as it goes without an engine: the Dockerfile's steps, its process, its health, its end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients import Client
from tests.conftest import PASSWORD
from tests.delivery.dockerfile import Image, build, context_files, instructions
from tests.delivery.workflows import ROOT
from tests.emulator import free_port
from tests.endtoend.conftest import wait_for

USER = 10001
# They build it first, for half a minute.
in_an_image = pytest.mark.slow
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
TRIAL = yaml.safe_load((ROOT / "compose.trial.yaml").read_text())


@pytest.fixture(scope="module")
def context() -> Iterator[Path]:
    """The files that an engine would be sent, where any user may look."""
    folder = Path(tempfile.mkdtemp(prefix="hybrid-ci-image-"))
    folder.chmod(0o755)
    for file in context_files(ROOT):
        (folder / "context" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / "context" / file)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(context: Path) -> Image:
    (context / "image").mkdir()
    return build(ROOT, "control-plane", context / "image", context / "context")


def container_environment(image: Image, port: int) -> dict[str, str]:
    """Of a container of the stage that the tests' tables are of."""
    handed = ("STAGE", "SECRET_KEY", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return {
        **image.process_environment(),
        **{name: os.environ[name] for name in handed},
        "ALLOWED_HOSTS": "ci.example.com,127.0.0.1",
        "PORT": str(port),
    }


def run(image: Image, command: list[str], environment: dict[str, str]) -> Any:
    """Start a program of the image as its user."""
    as_user = {"user": USER, "group": USER, "extra_groups": []} if os.getuid() == 0 else {}
    program = shutil.which(command[0], path=environment["PATH"])
    assert program is not None
    return subprocess.Popen(
        [program, *command[1:]],
        cwd=image.place(""),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **as_user,
    )


def test_the_builder_is_sent_what_runs_and_nothing_else() -> None:
    files = {str(file) for file in context_files(ROOT)}
    assert {"manage.py", "apps/jobs/services/queue.py", "static/app.css", "requirements-container.txt"} <= files
    tops = {file.partition("/")[0] for file in files}
    assert tops == {
        *("agent", "apps", "controlplane", "static", "templates"),
        *("manage.py", "requirements.txt", "requirements-container.txt"),
    }
    assert not [file for file in files if "infrastructure" in file or "/local" in file or file.endswith(".pyc")]


def test_no_layer_holds_a_secret_and_every_base_has_a_tag() -> None:
    steps = list(instructions((ROOT / "Dockerfile").read_text()))
    assert not [rest for name, rest in steps if name in ("ARG", "ENV") and re.search("SECRET|TOKEN|PASSWORD", rest)]
    bases = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert set(bases) == {"python:3.11-slim-trixie"}


@pytest.mark.parametrize("target", ["agent", "control-plane"])
def test_a_target_ends_as_a_fixed_user_who_is_not_root_and_starts_without_a_shell(target: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = text[text.index(f"AS {target}\n") :].split("\nFROM ")[0]
    steps = dict(instructions("FROM x " + last))
    assert steps["USER"] == f"{USER}:{USER}"
    assert steps["CMD"].startswith("[")


@in_an_image
def test_the_container_serves_as_its_user_is_healthy_and_stops_when_it_is_told(image: Image, server: str) -> None:
    port = free_port()
    environment = container_environment(image, port)
    create = ["python", "manage.py", "create_admin", "admin@example.com"]
    made = run(image, create, {**environment, "ADMIN_PASSWORD": PASSWORD})
    assert made.wait(30) == 0, made.stdout.read()
    process = run(image, image.command, environment)
    try:

        def healthy() -> bool:
            assert process.poll() is None, process.stdout.read()
            return bool(run(image, image.health, environment).wait(10) == 0)

        wait_for(healthy, seconds=30)
        address = f"http://127.0.0.1:{port}"
        client = Client(address)
        assert client.get("/health").json()["status"] == "healthy"
        # Files were collected into the image, and are served from there.
        assert client.get("/static/app.css").headers["Content-Type"].startswith("text/css")
        page = client.get("/signin", headers={"Accept": "text/html"})
        secret = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert secret is not None
        form = {"csrfmiddlewaretoken": secret[1], "email": "admin@example.com", "password": PASSWORD}
        assert client.post("/signin", data=form, headers={"Accept": "text/html"}).status_code == 302
        assert client.get("/dashboard/").status_code == 200
        if os.getuid() == 0:
            assert Path(f"/proc/{process.pid}").stat().st_uid == USER
    finally:
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=25)[0]
    assert process.returncode == 0, told
    assert "Traceback" not in told
    # It left nothing behind but in its volume: all else may be read-only.
    owned = [path for path in image.root.rglob("*") if path.lstat().st_uid == USER] if os.getuid() == 0 else []
    assert all(path.is_relative_to(image.root / "data") for path in owned)
    # Nobody is there any more.
    assert run(image, image.health, environment).wait(10) != 0


@in_an_image
def test_its_other_services_start_in_it(image: Image, server: str) -> None:
    environment = container_environment(image, free_port())
    sweep = COMPOSE["services"]["sweep"]["command"]
    assert sweep[:4] == ["python", "manage.py", "sweep", "--every"]
    once = run(image, sweep[:3], environment)
    told = once.communicate(timeout=30)[0]
    assert (once.returncode, "jobs taken back" in told) == (0, True), told
    tables = run(image, TRIAL["services"]["tables"]["command"], environment)
    assert "All tables are" in tables.communicate(timeout=30)[0]


@in_an_image
def test_a_stage_whose_settings_are_incomplete_does_not_start(image: Image) -> None:
    environment = {**image.process_environment(), "STAGE": "staging", "PORT": str(free_port())}
    process = run(image, image.command, environment)
    told = process.communicate(timeout=30)[0]
    assert process.returncode != 0
    assert "SECRET_KEY" in told


@pytest.mark.parametrize("name", ["web", "sweep", "agent"])
def test_every_service_can_write_only_where_it_must_and_gains_no_rights(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # The first process of a container is not ended by a signal that it has no handler for.
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    for volume in service["volumes"]:
        assert volume.partition(":")[2] == "/data"


def test_compose_names_settings_that_there_are_and_publishes_to_this_machine_only() -> None:
    known = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    for service in TRIAL["services"].values():
        assert set(service.get("environment", {})) <= known
    for file in (COMPOSE, TRIAL):
        for service in file["services"].values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_a_dockerfile_that_is_wrong_is_found(tmp_path: Path) -> None:
    """That hadolint is content with ours means something only if it can be discontent."""
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(
        (ROOT / "Dockerfile").read_text().replace("python:3.11-slim-trixie AS build", "python:latest AS build")
    )
    program = Path(sys.executable).parent / "hadolint"
    assert subprocess.run([program, ROOT / "Dockerfile"], check=False).returncode == 0
    assert "DL3007" in subprocess.run([program, wrong], capture_output=True, text=True, check=False).stdout
