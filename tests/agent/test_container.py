"""Steps in containers: the exact command line with an engine that only records it, and podman where it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.bundle import agent_bundle
from agent.container import Container, Engine, Engines
from agent.environment import container_environment, engine_environment
from agent.job_folder import JobFolder
from agent.removal import remove_folder
from agent.step_users import StepUser
from tests.agent.conftest import ROOT, AgentProcess, History, ending, eventually
from tests.agent.fake_server import FakeControlPlane

# Records each call with its environment. A container is a process that runs the script outside of any container.
FAKE = """#!{python} -IS
import json, os, re, subprocess, sys
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n")
if sys.argv[1] == "info":
    print({rootless!r})
elif sys.argv[1] == "run":
    mounts = dict(word[9:].split(":")[1::-1] for word in sys.argv if word.startswith("--volume="))
    script = open(mounts["/ci/step.sh"]).read()
    secrets = mounts.get("/ci/secrets")
    text = open(secrets + "/.variables.sh").read() if secrets else ""
    text += open(mounts["/ci/variables.sh"]).read() + script
    for inside, outside in mounts.items():
        text = text.replace(inside, outside)
    os.chdir(mounts["/ci/workspace"])
    sys.exit(subprocess.run(["/bin/sh", "-ec", text], env={{"PATH": os.environ["PATH"]}}).returncode)
"""


class FakeEngine:
    def __init__(self, folder: Path, name: str = "podman", rootless: str = "true") -> None:
        self.folder = folder
        self._calls = folder / "calls"
        folder.mkdir()
        program = folder / name
        program.write_text(FAKE.format(python=sys.executable, calls=str(self._calls), rootless=rootless))
        program.chmod(0o755)
        self.path = str(program)

    def forget(self) -> None:
        """Forget the calls so far."""
        self._calls.unlink(missing_ok=True)

    def calls(self, command: str) -> list[tuple[list[str], dict[str, str]]]:
        if not self._calls.exists():
            return []
        lines = [json.loads(line) for line in self._calls.read_text().splitlines()]
        return [(arguments[1:], env) for arguments, env in lines if arguments[0] == command]


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path / "engine")


def with_path(folder: Path) -> list[str]:
    """The command of an agent that finds programs in the folder first."""
    return ["/usr/bin/env", f"PATH={folder}:{os.environ['PATH']}", sys.executable, "-m", "agent"]


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> FakeEngine:
    return FakeEngine(tmp_path_factory.mktemp("machine") / "engine")


@pytest.fixture(scope="module")
def equipped_agent(
    tmp_path_factory: pytest.TempPathFactory, shared_plane: FakeControlPlane, shared_engine: FakeEngine
) -> Iterator[AgentProcess]:
    """One agent on a machine with this engine, for several tests."""
    with ending(AgentProcess(tmp_path_factory.mktemp("agent"), shared_plane, "--grace=1")) as agent:
        yield agent.start("--labels=linux", command=with_path(shared_engine.folder))


@pytest.fixture
def equipped(equipped_agent: AgentProcess, shared_plane: FakeControlPlane, shared_engine: FakeEngine) -> FakeEngine:
    """The engine of that agent, which has begun. What it was asked for before is forgotten."""
    shared_plane.wait_for(lambda: shared_plane.heartbeats)
    shared_engine.forget()
    return shared_engine


def test_a_pipeline_s_container_runs_each_step_by_the_engine_with_these_mounts_and_rights(
    equipped_agent: AgentProcess, shared_plane: FakeControlPlane, history: History, equipped: FakeEngine
) -> None:
    agent, plane, engine = equipped_agent, shared_plane, equipped
    secret = "it's a\nsecret $HOME"
    job = plane.add_job(
        history.url,
        container="python:3.12-slim",
        steps=[
            {"name": "one", "run": 'cat number; echo "[$SECRET]"; echo "home $HOME"', "env": {"SECRET": secret}},
            {"name": "two", "run": "echo second; exit 3"},
        ],
    )
    assert plane.finished(job)["exit_code"] == 3
    assert [step["exit_code"] for step in job.finish["steps"]] == [0, 3]
    assert f"\n3\n[{secret}]\nhome " in job.text
    (one, env), (two, _) = engine.calls("run")
    marker = (agent.state / "marker").read_text()[:12]
    folder = f"{agent.state}/work/agent-{marker}/{job.job_id}.1"
    private = f"/dev/shm/hybrid-ci-{os.geteuid()}-{marker}/{job.job_id}.1"
    if not Path("/dev/shm").is_dir():
        private = f"{folder}/private"
    assert one == [
        "--rm",
        f"--name=hybrid-ci-{job.job_id}-1",
        f"--label=hybrid-ci-agent={(agent.state / 'marker').read_text()[:12]}",
        "--user=0:0",
        "--security-opt=no-new-privileges",
        f"--volume={folder}/workspace:/ci/workspace:Z",
        f"--volume={folder}/home:/ci/home:Z",
        f"--volume={folder}/tmp:/ci/temporary:Z",
        f"--volume={private}/exchange:/ci/exchange:Z",
        f"--volume={folder}/step-1.sh:/ci/step.sh:ro,Z",
        f"--volume={folder}/step-1.variables.sh:/ci/variables.sh:ro,Z",
        f"--volume={folder}/agent.pyz:/ci/agent.pyz:ro,Z",
        "--workdir=/ci/workspace",
        "--entrypoint=/bin/sh",
        "python:3.12-slim",
        "-c",
        ". /ci/variables.sh; exec /bin/sh -e /ci/step.sh",
    ]
    assert [word for word in one if word not in two] == [word for word in one if "step-1" in word]
    assert "SECRET" not in env
    assert "SECRET_OF_THE_MACHINE" not in env
    assert [call for call, _ in engine.calls("rm")] == [["--force", f"hybrid-ci-{job.job_id}-1"]] * 2


def test_secrets_reach_a_container_by_a_folder_in_memory_and_neither_the_engine_nor_its_arguments(
    shared_plane: FakeControlPlane, history: History, equipped: FakeEngine
) -> None:
    values = {"TOKEN": "canary-it's-$HOME", "KUBECONFIG": "canary-file\nsecond-line"}
    script = 'echo "${#TOKEN} $TOKEN"; cat "$KUBECONFIG"; ls -l "$KUBECONFIG"'
    job = shared_plane.add_job(history.url, container="image", run=script, secret_values=values, files=["KUBECONFIG"])
    assert shared_plane.finished(job)["error_message"] is None
    assert "\n17 ***\n***-rw-------" in job.text
    ((call, env),) = equipped.calls("run")
    (mount,) = [word for word in call if word.endswith(":/ci/secrets:ro,Z")]
    assert mount.startswith("--volume=/dev/shm/hybrid-ci-") or not Path("/dev/shm").is_dir()
    assert "--ulimit=core=0:0" in call
    assert call[-1] == ". /ci/secrets/.variables.sh; . /ci/variables.sh; exec /bin/sh -e /ci/step.sh"
    assert "canary" not in repr([call, env])
    assert not Path(mount.removeprefix("--volume=").partition(":")[0]).exists()


def test_a_pipeline_s_variables_never_reach_the_engine_s_own_program(
    agent: AgentProcess, plane: FakeControlPlane, history: History, engine: FakeEngine
) -> None:
    hostile = {"LD_PRELOAD": "/ci/workspace/evil.so", "CONTAINERS_CONF": "evil", "DOCKER_HOST": "evil", "PATH": "/evil"}
    job = plane.add_job(history.url, container="image", run="echo $DOCKER_HOST", env=hostile, pipeline_env=hostile)
    agent.start(command=with_path(engine.folder))
    plane.finished(job)
    for command in ("info", "run", "rm"):
        for _, env in engine.calls(command):
            assert not [name for name, value in hostile.items() if env.get(name) == value]
    assert "\nevil\n" in job.text


def test_a_container_that_exceeds_its_time_limit_is_removed_by_its_name(
    shared_plane: FakeControlPlane, history: History, equipped: FakeEngine
) -> None:
    job = shared_plane.add_job(
        history.url, container="image", steps=[{"name": "slow", "run": "trap '' TERM; sleep 300", "timeout": 1}]
    )
    assert shared_plane.finished(job)["steps"][0]["state"] == "timed_out"
    assert [call for call, _ in equipped.calls("rm")] == [["--force", f"hybrid-ci-{job.job_id}-1"]]


def test_the_containers_that_an_earlier_run_left_are_removed_at_the_next_start(
    agent: AgentProcess, plane: FakeControlPlane, history: History, engine: FakeEngine
) -> None:
    job = plane.add_job(history.url, container="image", run="echo begun; sleep 300")
    agent.start(command=with_path(engine.folder))
    plane.wait_for_output(job, "begun")
    agent.kill()
    assert not engine.calls("ps")
    agent.start(command=with_path(engine.folder))
    eventually(lambda: engine.calls("ps"))
    owner = (agent.state / "marker").read_text()[:12]
    assert engine.calls("ps")[0][0] == ["--all", "--quiet", f"--filter=label=hybrid-ci-agent={owner}"]


@pytest.mark.usefixtures("equipped")
def test_an_agent_with_an_engine_enrols_with_the_label_container(shared_plane: FakeControlPlane) -> None:
    assert shared_plane.enrol_requests[0][1]["labels"] == ["linux", "container"]


def without_engine(folder: Path) -> list[str]:
    """The command of an agent on a machine that has git, but no engine."""
    folder.mkdir()
    for name in ("git", "sh", "env"):
        (folder / name).symlink_to(shutil.which(name) or "")
    return ["/usr/bin/env", f"PATH={folder}", sys.executable, "-m", "agent"]


def test_an_agent_without_an_engine_runs_no_step_of_a_pipeline_with_a_container(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    job = plane.add_job(history.url, container="image", run="touch /tmp/never")
    agent.start(command=without_engine(tmp_path / "bin"))
    assert plane.finished(job)["exit_code"] is None
    assert plane.enrol_requests[0][1]["labels"] == []
    # The job is tried elsewhere: an agent with the label and without an engine is at fault.
    assert "this machine has neither podman nor docker that works" in job.finish["agent_fault"]
    assert [step["state"] for step in job.finish["steps"]] == ["skipped"]


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "job")
    folder.create()
    return folder


def rights(engine: Engine, folder: JobFolder) -> list[str]:
    container = Container(engine, image="image", name="name", owner="owner", folder=folder)
    command = container.command(folder.write_script("step-1.sh", "true"), {})
    return [word for word in command if re.match(r"--(user|cap|security|privileged|network|pid|ipc|device)", word)]


def test_where_root_inside_is_root_outside_steps_have_another_user_and_no_capabilities(folder: JobFolder) -> None:
    engine = Engine("/usr/bin/docker", is_rootless=False, env={})
    no_more = ["--cap-drop=all", "--security-opt=no-new-privileges"]
    assert rights(engine, folder) == [f"--user={os.geteuid()}:{os.getegid()}", *no_more]
    (folder.path / "step-1.sh").unlink()
    (folder.path / "step-1.variables.sh").unlink()
    folder.owner = StepUser("ci-step-1", 1234, 5678, (5678,))
    assert rights(engine, folder) == ["--user=1234:5678", *no_more]


def test_an_engine_that_does_not_answer_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "docker"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    working = FakeEngine(tmp_path / "working", "docker", "[name=seccomp,profile=default name=rootless]")

    def find(path: Path) -> Engine | None:
        return Engines({"PATH": str(path)}, used=tmp_path / "used", owner="owner").find()

    assert find(tmp_path) is None
    assert find(tmp_path / "missing") is None
    found = find(working.folder)
    assert found is not None
    assert (found.path, found.is_rootless) == (working.path, True)


def test_the_machine_s_variables_stay_outside() -> None:
    machine = {"PATH": "/bin", "LANG": "C", "https_proxy": "p", "JAVA_HOME": "j", "HYBRID_CI_TOKEN": "t", "HOME": "/h"}
    assert container_environment(machine, ["JAVA_*"]) == {"https_proxy": "p", "JAVA_HOME": "j"}
    assert engine_environment(machine) == {"PATH": "/bin", "LANG": "C", "https_proxy": "p", "HOME": "/h"}


# podman itself. Machines of CI often have it, but forbid what it needs, so it gets only what it must have here.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1000:1000", "nproc=2000:2000"]
cgroups = "disabled"
pids_limit = 0
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
STORAGE_CONF = """
[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/runroot"
[storage.options.vfs]
ignore_chown_errors = "true"
"""
# crun cannot use the mixture of cgroup v1 and v2 that some machines have.
ONE_HIERARCHY = 'umount --recursive --lazy /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
PROGRAMS = ("sh", "cat", "sleep", "id", "touch", "ls", "grep")


class Podman:
    """podman with a storage of its own, and an image of this machine's shell."""

    def __init__(self, folder: Path, user: int | None = None) -> None:
        self.folder = folder
        (folder / "containers.conf").write_text(CONTAINERS_CONF)
        (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder))
        self.env = {
            "PATH": os.environ["PATH"],
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
        self.prefix = ["unshare", "--mount", "--propagation=private", "/bin/sh", "-c", ONE_HIERARCHY, "sh"]
        self.python = [sys.executable, "-m", "agent"]
        if user is not None:
            for name in ("run", "home"):
                (folder / name).mkdir(mode=0o700)
            for path in (folder, *folder.iterdir()):
                os.chown(path, user, user)
            self.env.update(XDG_RUNTIME_DIR=str(folder / "run"), HOME=str(folder / "home"))
            self.prefix += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            (folder / "agent.pyz").write_bytes(agent_bundle())
            # Other users cannot run a Python in root's home.
            self.python = ["/usr/bin/python3", str(folder / "agent.pyz")]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, "podman", *map(str, arguments)],
            cwd="/",
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def agent(self) -> list[str]:
        """The command of an agent that finds this podman."""
        variables = [f"{name}={value}" for name, value in self.env.items()]
        return [*self.prefix, "/usr/bin/env", *variables, *self.python]

    def make_image(self) -> None:
        archive = self.folder / "image.tar"
        with tarfile.open(archive, "w", dereference=True) as image:
            needed = {Path(shutil.which(program) or "") for program in PROGRAMS}
            for program in sorted(needed):
                image.add(program, f"bin/{program.name}")
            for library in libraries(needed):
                image.add(library, str(library).lstrip("/"))
        self.run("import", archive, "localhost/tiny:1")


def libraries(programs: set[Path]) -> set[Path]:
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    return {Path(word) for word in re.findall(r"(/\S+) \(0x", listed)}


def ready(podman: Podman) -> Iterator[Podman]:
    """podman with its image. Skips the test where it cannot run containers."""
    podman.make_image()
    tried = podman.run("run", "--rm", "localhost/tiny:1", "/bin/sh", "-c", "echo works")
    if tried.stdout != "works\n":
        pytest.skip(f"podman cannot run containers here: {tried.stderr}")
    yield podman
    podman.run("rm", "--all", "--force")
    podman.run("rmi", "--all", "--force")
    remove_folder(podman.folder)


needs_podman = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("podman", path="/usr/bin") is None, reason="needs podman and root"
)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    yield from ready(Podman(tmp_path_factory.mktemp("podman")))


NOBODY = 65534


@pytest.fixture
def rootless_podman() -> Iterator[Podman]:
    # pytest's folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))
    yield from ready(Podman(folder, NOBODY))


ATTACK = """
id -u
cat number
echo written > file; touch "$HOME/file" "$TMPDIR/file"
echo "[$SECRET]"
ls {state} && echo "REACHED state"
cat {state}/identity.json && echo "REACHED identity"
ls {outside} && echo "REACHED the machine"
ls /proc/{agent} && echo "REACHED processes"
grep -E 'CapEff|NoNewPrivs' /proc/self/status
echo attacked
"""


@needs_podman
@pytest.mark.nightly
@pytest.mark.parametrize("ends", [True, False])
def test_podman_runs_a_step_that_sees_nothing_of_the_machine_but_its_workspace(
    ends: bool, podman: Podman, agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    agent.start(command=podman.agent())
    plane.wait_for(lambda: plane.heartbeats, 30)
    assert plane.enrol_requests[0][1]["labels"] == ["container"]
    script = ATTACK.format(state=agent.state, outside=ROOT, agent=agent.pid)
    secret = "it's a\nsecret"
    steps: list[dict[str, Any]] = [
        {"name": "one", "run": script, "env": {"SECRET": secret}},
        {"name": "two", "run": "cat file; ls $HOME; (sleep 300 &); exit 3" if ends else "echo begun; sleep 300"},
    ]
    if not ends:
        steps[1]["timeout"] = 2
    job = plane.add_job(history.url, container="localhost/tiny:1", steps=steps)
    report = plane.finished(job, 60)
    assert "REACHED" not in job.text, job.text
    assert "\nattacked\n" in job.text, job.text
    assert f"\n3\n[{secret}]\n" in job.text
    assert "NoNewPrivs:\t1" in job.text
    assert re.search(r"CapEff:\t0{16}", job.text)
    if ends:
        assert report["exit_code"] == 3
        assert "\nwritten\nfile\n" in job.text
    else:
        assert report["steps"][1]["state"] == "timed_out"
        assert "\nbegun\n" in job.text
    assert podman.run("ps", "--all", "--quiet").stdout == ""
    eventually(lambda: not list((agent.state / "work").glob("agent-*/*")))


def test_a_step_in_a_container_gets_an_identity_token(
    shared_plane: FakeControlPlane, history: History, equipped: FakeEngine
) -> None:
    """The image needs python3, and sees the agent's program and the folder of requests."""
    job = shared_plane.add_job(
        history.url,
        container="python:3.12-slim",
        run=f'T=$("{sys.executable}" "$HYBRID_CI_AGENT" token --audience aws); echo "length ${{#T}}"',
        name="first",
        run_id="run1",
        group=None,
    )
    assert shared_plane.finished(job)["error_message"] is None, job.text
    assert f"length {len('head.body.signature')}\n" in job.text
    assert job.audiences == ["aws"]


@needs_podman
def test_podman_s_container_of_a_killed_agent_is_removed(
    podman: Podman, agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, container="localhost/tiny:1", run="echo begun; sleep 300")
    agent.start(command=podman.agent())
    plane.wait_for_output(job, "begun", 60)
    agent.kill()
    agent.start(command=podman.agent())
    eventually(lambda: podman.run("ps", "--all", "--quiet").stdout == "", 30)


@needs_podman
def test_rootless_podman_runs_a_step_that_is_root_inside_and_the_agent_s_user_outside(
    rootless_podman: Podman, plane: FakeControlPlane, history: History
) -> None:
    place = rootless_podman.folder
    agent = AgentProcess(place / "agent", plane, "--grace=1")
    for path in (place / "agent", place / "agent" / "home"):
        os.chown(path, NOBODY, NOBODY)
    repository = shutil.copytree(history.path, place / "repository.git")
    for path in (repository, *repository.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    script = "test -r $HYBRID_CI_AGENT; echo a=1 > $HYBRID_CI_OUTPUT\n"
    script += 'echo "secret ${#TOKEN} $(cat "$KUBECONFIG")"; ls -l "$KUBECONFIG"\n'
    script += ATTACK.format(state=agent.state, outside=ROOT, agent=1_000_000)
    job = plane.add_job(
        f"file://{repository}",
        container="localhost/tiny:1",
        name="in-a-container",
        run_id="run1",
        group=None,
        outputs=["a"],
        secret_values={"TOKEN": "canary-of-a-container", "KUBECONFIG": "canary-in-a-file"},
        files=["KUBECONFIG"],
        steps=[{"name": "one", "run": script}, {"name": "two", "run": "cat file; sleep 300", "timeout": 3}],
    )
    try:
        agent.start(command=rootless_podman.agent())
        report = plane.finished(job, 90)
        assert [step["state"] for step in report["steps"]] == ["completed", "timed_out"], job.text
        assert "REACHED" not in job.text, job.text
        assert "\n0\n3\n" in job.text
        assert "\nwritten\n" in job.text
        assert report["outputs"] == {"a": "1"}
        assert "secret 21 ***\n-rw-------" in job.text
        eventually(lambda: not list((agent.state / "work").glob("agent-*/*")))
        assert rootless_podman.run("ps", "--all", "--quiet").stdout == ""
        kept = subprocess.run(["grep", "-rl", "canary-", place], capture_output=True, text=True, check=False)
        assert kept.stdout == ""
    finally:
        agent.stop()
