"""The containers, as far as they go without an engine: what is sent to it, their processes, their health, their end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import cache_from_source
from pathlib import Path

import pytest
import yaml

from tests.clients import Client
from tests.conftest import PASSWORD
from tests.delivery.workflows import ROOT
from tests.emulator import free_port
from tests.endtoend.conftest import wait_for

USER = 10001
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
TRIAL = yaml.safe_load((ROOT / "compose.trial.yaml").read_text())


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction with its arguments, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def target(name: str) -> dict[str, str]:
    """The last instruction of each kind of a target."""
    _, _, behind = DOCKERFILE.partition(f" AS {name}\n")
    return dict(instructions(behind.split("\nFROM ")[0]))


def context_files(project: Path) -> Iterator[Path]:
    """The files that .dockerignore lets through, relative to the project. The last rule that fits a path decides."""
    rules = [line for line in (project / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    tops = {rule[1:] for rule in rules if rule.startswith("!")}
    for top in sorted(tops):
        found = project / top
        for path in [found] if found.is_file() else sorted(found.rglob("*")):
            relative = path.relative_to(project)
            if path.is_file() and _let_through(relative, rules):
                yield relative


def _let_through(path: Path, rules: list[str]) -> bool:
    # A rule that fits a folder fits all that is in it.
    names = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
    through = True
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        fitting = [name.rpartition("/")[2] for name in names] if "**/" in rule else names
        if any(fnmatchcase(name, pattern) and ("/" in pattern or name.count("/") == 0) for name in fitting):
            through = rule.startswith("!")
    return through


class Container:
    """The files that an engine would be sent, with the folder /data beside them, to start a container's programs in."""

    def __init__(self, folder: Path) -> None:
        self.app, self.data = folder / "app", folder / "data"
        self.data.mkdir()
        for file in context_files(ROOT):
            (self.app / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, self.app / file)
            # The step that compiles the modules of the image keeps what is up to date.
            bytecode = Path(cache_from_source(file))
            if file.suffix == ".py" and (ROOT / bytecode).exists():
                (self.app / bytecode).parent.mkdir(exist_ok=True)
                shutil.copy2(ROOT / bytecode, self.app / bytecode)
        # What is installed here, and not in the image.
        self._absent = folder / "absent"
        self._absent.mkdir()
        for name in ("ministack", "pytest", "troposphere", "zappa"):
            (self._absent / f"{name}.py").write_text("raise ImportError('not in the image')")
        steps = target("control-plane")
        self.command: list[str] = json.loads(steps["CMD"])
        self.health: list[str] = json.loads(steps["HEALTHCHECK"].split(" CMD ")[1])
        self._environment = {
            name: value.replace("/data", str(self.data)) for name, value in re.findall(r"(\w+)=(\S+)", steps["ENV"])
        }

    def environment(self, **settings: str) -> dict[str, str]:
        """What a process in it finds, with these settings."""
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        # Bytecode is made with the image.
        own = {"PATH": path, "PYTHONPATH": str(self._absent), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**self._environment, **own, **settings}

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None
        return subprocess.Popen(
            [program, *command[1:]],
            cwd=self.app,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: list[str], environment: dict[str, str]) -> tuple[int, str]:
        """The exit code of a program, and what it says."""
        process = self.start(command, environment)
        said = process.communicate(timeout=30)[0]
        return process.returncode, said

    def files(self) -> set[Path]:
        return {path for path in self.app.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    container = Container(tmp_path_factory.mktemp("container"))
    made = re.search(
        r"RUN (.*) /venv/bin/python (manage.py collectstatic .*?) && /venv/bin/python (.*) /app", DOCKERFILE
    )
    assert made is not None
    settings = dict(re.findall(r"(\w+)=(\w+)", made[1]))
    # The image's order is the other one, which takes longer here.
    for command in (f"{made[3]} {container.app}", made[2]):
        code, said = container.run(["python", *command.split()], container.environment(**settings))
        assert code == 0, said
    return container


@pytest.fixture
def environment(container: Container, server: str) -> dict[str, str]:
    """Of a container of the stage that the tests' tables are of."""
    handed = ("STAGE", "SECRET_KEY", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    settings = {name: os.environ[name] for name in handed}
    return container.environment(**settings, ALLOWED_HOSTS="ci.example.com,127.0.0.1", PORT=str(free_port()))


def test_the_builder_is_sent_what_runs_and_nothing_else() -> None:
    files = {str(file) for file in context_files(ROOT)}
    assert {"manage.py", "apps/jobs/services/queue.py", "static/app.css", "requirements/container.txt"} <= files
    tops = {file.partition("/")[0] for file in files}
    assert tops == {
        *("agent", "apps", "controlplane", "requirements", "static", "templates"),
        "manage.py",
    }
    assert not [
        file for file in files if "infrastructure" in file or "controlplane/local" in file or file.endswith(".pyc")
    ]


def test_every_file_that_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    files = {str(file) for file in context_files(ROOT)}
    sent = files | {str(parent) for file in files for parent in Path(file).parents}
    copied = [rest.split()[:-1] for name, rest in instructions(DOCKERFILE) if name == "COPY" and "--from" not in rest]
    assert copied
    assert {source for sources in copied for source in sources} <= sent


def test_no_layer_has_a_secret_and_every_base_has_a_tag() -> None:
    steps = list(instructions(DOCKERFILE))
    assert not [rest for name, rest in steps if name in ("ARG", "ENV") and re.search("SECRET|TOKEN|PASSWORD", rest)]
    bases = [rest.split(" AS ") for name, rest in steps if name == "FROM"]
    # In one place, where Dependabot or a person puts the digest.
    (first, _), *others = bases
    assert re.fullmatch(r"python:3\.11-slim-trixie(@sha256:[0-9a-f]{64})?", first)
    assert {base for base, _ in others} == {"base"}


def test_the_image_installs_what_is_locked_by_hashes_and_nothing_that_must_be_compiled() -> None:
    (install,) = (rest for name, rest in instructions(DOCKERFILE) if name == "RUN" and "pip install" in rest)
    assert {"--require-hashes", "--only-binary=:all:", "requirements/container.txt"} <= set(install.split())


@pytest.mark.parametrize("name", ["agent", "control-plane"])
def test_a_target_ends_as_a_fixed_user_who_is_not_root_and_starts_without_a_shell(name: str) -> None:
    steps = target(name)
    assert steps["USER"] == f"{USER}:{USER}"
    assert steps["CMD"].startswith("[")


def test_the_container_serves_is_healthy_and_stops_on_sigterm(
    container: Container, environment: dict[str, str]
) -> None:
    before = container.files()
    create = ["python", "manage.py", "create_admin", "admin@example.com"]
    code, said = container.run(create, {**environment, "ADMIN_PASSWORD": PASSWORD})
    assert code == 0, said
    process = container.start(container.command, environment)
    try:

        def healthy() -> bool:
            assert process.poll() is None, process.communicate()[0]
            return container.run(container.health, environment)[0] == 0

        wait_for(healthy, seconds=30)
        address = f"http://127.0.0.1:{environment['PORT']}"
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
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=25)[0]
    assert process.returncode == 0, output
    assert "Traceback" not in output
    # It left nothing behind but in its volume: all else may be read-only.
    assert container.files() == before
    # Nothing answers any more.
    assert container.run(container.health, environment)[0] != 0


def test_its_other_services_start_in_it(container: Container, environment: dict[str, str]) -> None:
    sweep = COMPOSE["services"]["sweep"]["command"]
    assert sweep[:4] == ["python", "manage.py", "sweep", "--every"]
    code, output = container.run(sweep[:3], environment)
    assert (code, "jobs taken back" in output) == (0, True), output
    assert "All tables are" in container.run(TRIAL["services"]["tables"]["command"], environment)[1]


def test_a_stage_whose_settings_are_incomplete_does_not_start(container: Container) -> None:
    environment = container.environment(STAGE="staging", PORT=str(free_port()), WEB_CONCURRENCY="1")
    code, output = container.run(container.command, environment)
    assert code != 0
    assert "SECRET_KEY" in output


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
