"""A Dockerfile without an engine: its steps are carried out in a directory of this machine.

What they do to paths under the directories that an image would have happens under a root of the test's own. The base
image is a copy of this machine's Python, since that may stand where only root can look; a step of `apt-get` is not
carried out.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

# The directories of the image that its steps name.
_OWN = re.compile(r"(?<![\w./-])/(app|data|venv)\b")


@dataclass
class Image:
    """What a target of the Dockerfile has come to."""

    root: Path
    base: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def place(self, path: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / str(PurePosixPath(self.folder) / path).lstrip("/")

    def mapped(self, text: str) -> str:
        """The text with the image's own directories replaced."""
        return _OWN.sub(lambda found: f"{self.root}/{found[1]}", text)

    def process_environment(self) -> dict[str, str]:
        """What a process in the container finds."""
        base = {"PATH": f"{self.base}/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": f"{self.base}/lib"}
        own = {name: self.mapped(value.replace("$PATH", base["PATH"])) for name, value in self.environment.items()}
        return {**base, **own}


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction with what stands behind it, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


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


def base_image(root: Path) -> Path:
    """A copy of this machine's Python, without what is installed into it."""
    version = "python{}.{}".format(*sys.version_info)
    prefix, base = Path(sys.base_prefix), root / "base"
    unwanted = shutil.ignore_patterns("site-packages", "dist-packages", "test", "config-*", "idlelib", "tkinter")
    shutil.copytree(prefix / "lib" / version, base / "lib" / version, symlinks=True, ignore=unwanted)
    for library in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy2(library, base / "lib", follow_symlinks=False)
    (base / "bin").mkdir()
    shutil.copy2(prefix / "bin" / version, base / "bin" / version)
    (base / "bin" / "python").symlink_to(version)
    return base


def build(project: Path, target: str, root: Path, context: Path) -> Image:
    """Carry out the steps of a target, and of those that it copies from. `context` is a copy of the context's files."""
    stages: dict[str, Image] = {}
    base = base_image(root)
    for name, rest in instructions((project / "Dockerfile").read_text()):
        if name == "FROM":
            title = rest.split(" AS ")[1]
            image = stages[title] = Image(root / title, base)
            image.root.mkdir()
        else:
            _step(image, name, rest, stages, context)
    return stages[target]


def _step(image: Image, name: str, rest: str, stages: dict[str, Image], context: Path) -> None:
    match name:
        case "WORKDIR":
            image.folder = rest
            image.place("").mkdir(parents=True, exist_ok=True)
        case "ENV":
            image.environment |= dict(re.findall(r"(\w+)=(\S+)", rest))
        case "USER":
            image.user = rest
        case "CMD":
            image.command = json.loads(rest)
        case "HEALTHCHECK":
            image.health = json.loads(rest.split(" CMD ")[1])
        case "COPY":
            _copy(image, rest, stages, context)
        case "RUN" if "apt-get" not in rest:
            _run(image, rest)
        case "RUN" | "EXPOSE":
            pass
        case _:
            raise AssertionError(f"unknown here: {name}")


def _copy(image: Image, rest: str, stages: dict[str, Image], context: Path) -> None:
    words = rest.split()
    options = [word for word in words if word.startswith("--")]
    *sources, destination = (word for word in words if not word.startswith("--"))
    stage = next((option.removeprefix("--from=") for option in options if option.startswith("--from=")), None)
    for source in sources:
        found = stages[stage].place(source) if stage else context / source
        where = image.place(destination)
        if found.is_dir():
            shutil.copytree(found, where, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(found, where / found.name)
        owner = next((option.removeprefix("--chown=") for option in options if option.startswith("--chown=")), None)
        if owner and os.getuid() == 0:
            os.chown(where, *map(int, owner.split(":")))


def _run(image: Image, command: str) -> None:
    if os.getuid() != 0:
        # Nobody else can give files away.
        command = re.sub(r" --(owner|group)=\d+", "", command)
    environment = {**image.process_environment(), "HOME": str(image.root)}
    # What is downloaded may come from this machine's cache.
    environment.pop("PIP_NO_CACHE_DIR", None)
    environment["PIP_CACHE_DIR"] = os.environ.get("PIP_CACHE_DIR", str(Path("~/.cache/pip").expanduser()))
    done = subprocess.run(
        ["sh", "-c", image.mapped(command)],
        cwd=image.place(""),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
