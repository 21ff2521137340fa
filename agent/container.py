"""Run steps in containers, by podman or docker.

A container sees the attempt's checkout, home and temporary folder, and nothing else of the machine. It gets no
privileges, and as its user one who owns these folders. The engine itself runs as the agent's user, with an environment
that no pipeline can change.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agent.job_folder import PROGRAM_VARIABLE, JobFolder
from agent.job_outputs import VARIABLE as OUTPUT_VARIABLE
from agent.job_secrets import JobSecrets
from agent.process import Guard

# Agents with an engine have this label, and the control plane asks for it where a pipeline has a container.
LABEL = "container"

_ENGINES = ("podman", "docker")
_OWNER_LABEL = "hybrid-ci-agent"
# Where the container sees the folders of the attempt.
_TOP = "/ci"
_PROBE_SECONDS = 30
_REMOVAL_SECONDS = 60
# No secret has such a name.
_SECRET_VARIABLES = ".variables.sh"
# Shells refuse to set these, and end.
_READ_ONLY = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})
# Variables come from files: every user of the machine can read a command line, and engines keep the variables that they
# set on disk.
_SCRIPT = f". {_TOP}/variables.sh; exec /bin/sh -e {_TOP}/step.sh"
_SECRET_SCRIPT = f". {_TOP}/secrets/{_SECRET_VARIABLES}; {_SCRIPT}"


@dataclass(frozen=True)
class Engine:
    """An engine that works. In a rootless one, root inside a container is the agent's user outside of it."""

    path: str
    is_rootless: bool
    env: Mapping[str, str]


class Engines:
    """Finds the engine of this machine when it is needed, and removes the containers that an earlier run has left."""

    def __init__(self, env: Mapping[str, str], *, used: Path, owner: str) -> None:
        """`env` is the environment of the engine's program, `owner` marks the agent's containers.

        The file `used` exists from the first container on.
        """
        self._env = env
        self._used = used
        self.owner = owner
        self._lock = threading.Lock()
        self._found: Optional[Engine] = None

    def find(self) -> Optional[Engine]:
        """The engine, or None if there is none that works now."""
        with self._lock:
            if self._found is None:
                self._found = next(filter(None, map(self._probe, _ENGINES)), None)
            return self._found

    def use(self) -> Optional[Engine]:
        """As `find`, before a container is started. Raises OSError."""
        engine = self.find()
        if engine is not None:
            self._used.touch()
        return engine

    def clean(self) -> None:
        """Remove the containers that an earlier run of this agent has left. Docker's run on without the agent."""
        if not self._used.exists():
            return
        engine = self.find()
        if engine is None:
            return
        listed = _run(engine, "ps", "--all", "--quiet", f"--filter=label={_OWNER_LABEL}={self.owner}")
        if listed is not None and (not listed or _run(engine, "rm", "--force", *listed.split()) is not None):
            self._used.unlink()

    def _probe(self, name: str) -> Optional[Engine]:
        path = shutil.which(name, path=self._env.get("PATH"))
        if path is None:
            return None
        fields = "{{.Host.Security.Rootless}}" if name == "podman" else "{{.SecurityOptions}}"
        answer = _run(Engine(path, False, self._env), "info", f"--format={fields}")
        if answer is None:
            return None
        return Engine(path, "true" in answer or "rootless" in answer, self._env)


class Container:
    """The containers of one attempt, one for each step."""

    def __init__(self, engine: Engine, *, image: str, name: str, owner: str, folder: JobFolder) -> None:
        """`name` is unique on the machine, `owner` marks the agent's containers."""
        self._engine = engine
        self._image = image
        self._name = name
        self._owner = owner
        self._folder = folder
        self._has_secrets = False
        # Whether the folders must belong to the attempt's step user, if it has one.
        self.uses_step_user = not engine.is_rootless

    @property
    def env(self) -> dict[str, str]:
        """The environment of the engine's program."""
        return dict(self._engine.env)

    def write_secrets(self, secrets: JobSecrets) -> None:
        """Keep the secrets for the steps, which `command` gets. Raises OSError."""
        self._has_secrets = bool(secrets)
        if secrets:
            paths = {name: f"{_TOP}/secrets/{name}" for name in secrets.files}
            self._folder.write_secret(_SECRET_VARIABLES, _exports({**secrets.variables, **paths}))

    def command(self, script: Path, env: Mapping[str, str]) -> list[str]:
        """The command that runs the script in a new container, with the variables `env`. Raises OSError."""
        own = {
            "HOME": f"{_TOP}/home",
            "TMPDIR": f"{_TOP}/temporary",
            "GIT_CONFIG_GLOBAL": f"{_TOP}/home/.gitconfig",
            OUTPUT_VARIABLE: f"{_TOP}/exchange/{self._folder.outputs.name}",
        }
        program = self._folder.program
        if program is not None:
            own[PROGRAM_VARIABLE] = f"{_TOP}/{program.name}"
        variables = self._folder.write_script(f"{script.stem}.variables.sh", _exports({**own, **env}))
        mounts = {
            str(self._folder.workspace): f"{_TOP}/workspace:Z",
            str(self._folder.home): f"{_TOP}/home:Z",
            str(self._folder.temporary): f"{_TOP}/temporary:Z",
            str(self._folder.exchange): f"{_TOP}/exchange:Z",
            str(script): f"{_TOP}/step.sh:ro,Z",
            str(variables): f"{_TOP}/variables.sh:ro,Z",
            **({str(program): f"{_TOP}/{program.name}:ro,Z"} if program is not None else {}),
            **({str(self._folder.secrets): f"{_TOP}/secrets:ro,Z"} if self._has_secrets else {}),
        }
        return [
            *(self._engine.path, "run", "--rm"),
            *(f"--name={self._name}", f"--label={_OWNER_LABEL}={self._owner}"),
            *self._rights(),
            *(("--ulimit=core=0:0",) if self._has_secrets else ()),
            *(f"--volume={source}:{target}" for source, target in mounts.items()),
            f"--workdir={_TOP}/workspace",
            *("--entrypoint=/bin/sh", self._image, "-c", _SECRET_SCRIPT if self._has_secrets else _SCRIPT),
        ]

    def remove(self, guard: Guard) -> None:
        """Remove the container of the last step with its processes. Docker's are no processes of the guard."""
        over = threading.Event()
        try:
            removal = guard.start(
                [self._engine.path, "rm", "--force", self._name],
                cwd=Path("/"),
                env=self.env,
                output=lambda _: None,
                on_end=over.set,
            )
        except OSError:
            _run(self._engine, "rm", "--force", self._name)
            return
        if not over.wait(_REMOVAL_SECONDS):
            removal.stop()
            over.wait(_REMOVAL_SECONDS)

    def _rights(self) -> list[str]:
        """The options for the user inside, and against more rights than that user has."""
        if self._engine.is_rootless:
            # Root inside is the agent's user outside, and may install packages in the container.
            return ["--user=0:0", "--security-opt=no-new-privileges"]
        owner = self._folder.owner
        uid, gid = (owner.uid, owner.gid) if owner is not None else (os.geteuid(), os.getegid())
        return [f"--user={uid}:{gid}", "--cap-drop=all", "--security-opt=no-new-privileges"]


def _exports(env: Mapping[str, str]) -> str:
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in env.items()
        if name.isidentifier() and name.isascii() and name not in _READ_ONLY
    )


def _run(engine: Engine, *arguments: str) -> Optional[str]:
    """What the engine prints, or None if it fails."""
    try:
        done = subprocess.run(
            [engine.path, *arguments],
            env=dict(engine.env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
