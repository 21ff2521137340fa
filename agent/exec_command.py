"""``agent.pyz exec``: run the jobs of a pipeline file in the current checkout, without any control plane."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Optional

from agent.console import Console
from agent.container import Engines
from agent.environment import container_environment, engine_environment, step_environment
from agent.guard_program import write_guard_program
from agent.job_context import StepContext
from agent.local_run import Checkout, LocalRun, exit_code, result_line
from agent.pipeline.check import check_files
from agent.pipeline.constants import DEFINITION_PATH, SECRET_NAME, SECRET_NAME_FORM
from agent.pipeline.definition import Node, Pipeline, SecretUse
from agent.pipeline.expressions import Context
from agent.pipeline.graph import graph_expand
from agent.pipeline.nodes import DefinitionInvalid
from agent.pipeline.parameters import ParametersInvalid, parameters_values
from agent.pipeline.reader import definition_read
from agent.private_folder import private_folder
from agent.process import Launcher
from agent.removal import remove_folder
from agent.workspace_files import LOCAL_FOLDER

_USAGE = 2
_GRACE_SECONDS = 5.0

_DESCRIPTION = f"""\
Runs jobs of a pipeline file in the current checkout, by the same code as an agent, without any control plane.

All jobs run in the checkout itself, with your uncommitted changes. As on an agent, steps get a home and a temporary
folder of their own and few variables of yours. Artifacts, caches and outputs are kept in the folder {LOCAL_FOLDER}; a
job that runs alone finds there what the jobs that it needs have left when they ran last. There are no approvals, no
concurrency groups and no retries here. `changed(…)` is always true. Secrets come from your variables, each that
--secret names.
"""

_EPILOG = """\
exit codes:
  0    all jobs have succeeded
  1    a job has failed, or the file is not valid; a step's own exit code if a step has failed
  2    an option is invalid
  130  an interrupt has stopped the jobs
"""


class _Invalid(Exception):
    """An option does not fit the file. The message says what must be."""


def exec_main(arguments: Sequence[str]) -> int:
    """The command line of ``agent.pyz exec``. Returns the exit code."""
    options = _parser().parse_args(arguments)
    workspace = _workspace()
    file = options.file or workspace / DEFINITION_PATH
    try:
        pipeline = definition_read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, DefinitionInvalid):
        return check_files([str(file)], out=sys.stderr, errors=sys.stderr) or 1
    try:
        context = _context(workspace, pipeline, _pairs(options.parameters, "-p"))
        secrets = _secrets(options.secrets)
        graph = graph_expand(pipeline, context)
        nodes = _chosen(graph, options.job, _pairs(options.cell, "--set"))
    except _Invalid as error:
        sys.stderr.write(f"{error}\n")
        return _USAGE
    except DefinitionInvalid as error:
        sys.stderr.writelines(f"{file}: error: {one['field']}: {one['message']}\n" for one in error.problems)
        return 1
    try:
        return _run(pipeline, graph, nodes, context, workspace, options=options, secrets=secrets)
    except OSError as error:
        sys.stderr.write(f"The folder {workspace / LOCAL_FOLDER} cannot be used: {error}.\n")
        return 1


def _run(
    pipeline: Pipeline,
    graph: list[Node],
    nodes: list[Node],
    context: Context,
    workspace: Path,
    *,
    options: argparse.Namespace,
    secrets: dict[str, str],
) -> int:
    console = Console.standard()
    for line in _missing(nodes, secrets):
        console.say(f"── {line}")
    folder = workspace / LOCAL_FOLDER
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    write_guard_program(folder / "program")
    marker = token_hex(16)
    engines = Engines(engine_environment(os.environ), used=folder / "containers", owner=marker[:12])
    # The same for each run in this checkout: a run that was killed leaves nothing for ever.
    place = sha256(os.fsencode(folder)).hexdigest()[:12]
    private_dir = private_folder(f"hybrid-ci-{os.geteuid()}-exec-{place}", others_enter=False)
    run = LocalRun(
        pipeline,
        nodes,
        context,
        graph=graph,
        checkout=Checkout(workspace, folder, context.ref, context.commit, private_dir),
        launcher=Launcher(program=folder / "program", marker=marker, grace=_GRACE_SECONDS),
        steps=StepContext(step_environment(os.environ, ()), container_environment(os.environ, ()), engines),
        console=console,
        jobs=options.jobs,
        secrets=secrets,
    )
    try:
        ends = run.run(ignore_conditions=options.job is not None)
    except KeyboardInterrupt:
        if private_dir is not None:
            remove_folder(private_dir)
        # The guards notice the end of this process and kill their commands.
        os._exit(130)
    if private_dir is not None:
        # Another run in this checkout may still need it.
        with suppress(OSError):
            private_dir.rmdir()
    if len(nodes) > 1:
        width = max(len(node.name) for node in nodes)
        console.say("\n".join(["──", *(result_line(ends[node.name], node.name, width) for node in nodes)]))
    return exit_code(nodes, ends)


def _secrets(names: Sequence[str]) -> dict[str, str]:
    """The values of the variables that --secret names. Raises _Invalid."""
    for name in names:
        if not SECRET_NAME.fullmatch(name):
            raise _Invalid(f"--secret must be {SECRET_NAME_FORM}, not {name!r}")
        if not os.environ.get(name):
            raise _Invalid(f"--secret {name} takes the value of the variable {name}, which is not set")
    return {name: os.environ[name] for name in names}


def _missing(nodes: list[Node], secrets: dict[str, str]) -> list[str]:
    """What these jobs ask for and a run without a control plane has not."""
    lines = []
    for node in nodes:
        lacking = [use.name for use in map(SecretUse.from_stored, node.secrets) if use.name not in secrets]
        if lacking:
            options = " ".join(f"--secret {name}" for name in lacking)
            lines.append(
                f"{node.name}: it runs without its secrets {', '.join(lacking)}; to pass on variables of yours with "
                f"these names, add {options}"
            )
        if node.environment:
            lines.append(f"{node.name}: nothing is approved here for the environment {node.environment}")
        if node.group:
            lines.append(f"{node.name}: nothing is held here for the concurrency group {node.group['name']}")
    return lines


def _chosen(nodes: list[Node], name: Optional[str], cell: dict[str, str]) -> list[Node]:
    """The jobs to run. Raises _Invalid."""
    if name is not None:
        found = [node for node in nodes if name in (node.job, node.name)]
        if not found:
            known = ", ".join(dict.fromkeys(node.job for node in nodes))
            raise _Invalid(f"--job must be one of {known}, not {name!r}")
        nodes = found
    axes = {axis for node in nodes for axis in node.cell}
    for axis in cell:
        if axis not in axes:
            raise _Invalid(
                f"--set must name one of {', '.join(sorted(axes)) or 'no axis: there is none'}, not {axis!r}"
            )
    # Jobs without these axes run as they are.
    found = [
        node for node in nodes if all(node.cell[axis] == value for axis, value in cell.items() if axis in node.cell)
    ]
    if not found or (cell and not any(node.cell for node in found)):
        raise _Invalid(f"--set leaves no job: {', '.join(f'{axis}={value}' for axis, value in cell.items())}")
    kept = {node.name for node in found}
    removed = {node.name for node in nodes} - kept
    return [_without(node, removed) for node in found]


def _without(node: Node, removed: set[str]) -> Node:
    """The job without needs that --set left out."""
    members = node.as_dict()
    members["needs"] = [need for need in node.needs if need["node"] not in removed]
    return Node.from_dict({**members, "name": node.name, "job": node.job})


def _context(workspace: Path, pipeline: Pipeline, given: dict[str, str]) -> Context:
    """What expressions mean here. Raises _Invalid."""
    try:
        parameters = parameters_values(pipeline.parameters, given)
    except ParametersInvalid as error:
        raise _Invalid("\n".join(f"-p {name} {message}" for name, message in error.problems.items())) from error
    branch = _git(workspace, "symbolic-ref", "--quiet", "--short", "HEAD")
    commit = _git(workspace, "rev-parse", "--verify", "--quiet", "HEAD")
    default = _git(workspace, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    return Context(
        ref=branch or commit,
        branch=branch,
        event="api",
        commit=commit,
        pipeline=workspace.name,
        default_branch=default.partition("/")[2] or branch,
        parameters=parameters,
    )


def _workspace() -> Path:
    """The top of the checkout, or the current folder if it is in none."""
    top = _git(Path.cwd(), "rev-parse", "--show-toplevel")
    return Path(top) if top else Path.cwd()


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; empty if it fails or is not installed."""
    try:
        return subprocess.run(
            [shutil.which("git") or "git", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise _Invalid(f"{option} must be name=value, not {text!r}")
        pairs[name] = value
    return pairs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent exec",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=f"(default: {DEFINITION_PATH})")
    parser.add_argument("--job", metavar="NAME", help="this job alone, without those that it needs")
    parser.add_argument(
        "--set", action="append", default=[], dest="cell", metavar="AXIS=VALUE", help="only these cells of matrices"
    )
    parser.add_argument(
        "-p", action="append", default=[], dest="parameters", metavar="NAME=VALUE", help="the value of a parameter"
    )
    parser.add_argument(
        "--secret",
        action="append",
        default=[],
        dest="secrets",
        metavar="NAME",
        help="give this secret to the jobs that name it; its value is that of your variable NAME",
    )
    parser.add_argument(
        "--jobs", type=_count, default=1, metavar="N", help="how many jobs run at once (default: %(default)s)"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 64")
    return int(text)
