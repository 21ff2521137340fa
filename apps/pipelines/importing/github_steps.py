"""Steps of GitHub Actions: scripts, and the actions whose work is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import yaml

from apps.pipelines.importing.drafts import JobDraft, StepDraft, duration_of, one_line
from apps.pipelines.importing.expressions import Condition, Outcome
from apps.pipelines.importing.foreign import Value, members_of, scalar_text, truth
from apps.pipelines.importing.github_values import VARIABLES, Values, output_name
from apps.pipelines.importing.remarks import Remarks, Unmapped, quoted
from apps.pipelines.importing.scripts import by_hand_step, variable_line, with_shell
from apps.pipelines.importing.sections import Section
from apps.pipelines.importing.values import hoist
from apps.pipelines.importing.variables import Variables

_STEP_OUTPUT = re.compile(r"\$\{\{\s*steps\.([A-Za-z0-9_-]+)\.outputs\.([A-Za-z0-9_-]+)\s*\}\}")
_STATUS_CALL = re.compile(r"\b(always|failure|cancelled)\(\)")
_NO_COUNTERPART = re.compile(r"\$\{?(?:GITHUB_STATE|ACTIONS_[A-Z_]+)\b")
# Where a step leaves variables and folders of programs for later steps, out of sight of git; and how these read them.
_HANDED_ON = {
    "GITHUB_ENV": (
        ".git/imported-env",
        'if [ -f {0} ]; then while IFS= read -r line; do export "$line"; done < {0}; fi',
    ),
    "GITHUB_PATH": (
        ".git/imported-path",
        'if [ -f {0} ]; then while IFS= read -r line; do PATH="$line:$PATH"; done < {0}; export PATH; fi',
    ),
}
_COMMANDS = {
    "GITHUB_WORKSPACE": "$PWD",
    "GITHUB_RUN_ID": "$HYBRID_CI_JOB_ID",
    "RUNNER_TEMP": "${TMPDIR:-/tmp}",
    **{name: f"$PWD/{path}" for name, (path, _) in _HANDED_ON.items()},
}
_SHELLS = {"bash": "bash -eo pipefail", "sh": "sh -e", "python": "python3", "python3": "python3"}

# Actions that put a tool on the machine: the command that shows it is there, its version's key, and an image with it.
_TOOLS = {
    "actions/setup-python": ("python3 --version", "python-version", "python"),
    "actions/setup-node": ("node --version", "node-version", "node"),
    "actions/setup-go": ("go version", "go-version", "golang"),
    "actions/setup-java": ("java -version", "java-version", "eclipse-temurin"),
    "actions/setup-dotnet": ("dotnet --version", "dotnet-version", "mcr.microsoft.com/dotnet/sdk"),
    "ruby/setup-ruby": ("ruby --version", "ruby-version", "ruby"),
    "shivammathur/setup-php": ("php --version", "php-version", "php"),
    "astral-sh/setup-uv": ("uv --version", "version", ""),
    "dtolnay/rust-toolchain": ("cargo --version", "toolchain", "rust"),
    "actions-rs/toolchain": ("cargo --version", "toolchain", "rust"),
    "gradle/actions/setup-gradle": ("gradle --version", "gradle-version", "gradle"),
    "docker/setup-buildx-action": ("docker buildx version", "version", ""),
    "pnpm/action-setup": ("pnpm --version", "version", ""),
    "hashicorp/setup-terraform": ("terraform version", "terraform_version", "hashicorp/terraform"),
    "azure/setup-helm": ("helm version", "version", "alpine/helm"),
}
_ACTION_COMMANDS = {
    "pre-commit/action": "pre-commit run --all-files",
    "golangci/golangci-lint-action": "golangci-lint run",
    "crate-ci/typos": "typos",
    "embarkstudios/cargo-deny-action": "cargo deny check",
}


@dataclass
class StepContext:
    """What the steps of one job share. `artifacts` has the jobs here that upload an artifact of a name there."""

    job: JobDraft
    values: Values
    remarks: Remarks
    artifacts: dict[str, list[str]] = field(default_factory=dict)
    shell: str | None = None
    folder: str | None = None
    # Scripts by the ids of their steps.
    scripts: dict[str, str] = field(default_factory=dict)
    # Those of _HANDED_ON that an earlier step writes.
    handed_on: set[str] = field(default_factory=set)


def steps_convert(nodes: list[Value], context: StepContext, subject: str) -> None:
    """Give the job its steps."""
    for node in nodes:
        members = members_of(node)
        script, name = scalar_text(members.get("run")), scalar_text(members.get("id"))
        if script and name:
            context.scripts[name] = script
    for number, node in enumerate(nodes):
        remarks = context.remarks.scope()
        section = Section(node, f"{subject}.steps[{number}]", remarks)
        steps = _step_convert(section, context)
        section.close()
        comments = remarks.close()
        if steps:
            steps[0].comments = comments
        else:
            context.job.comments.extend(comments)
        context.job.steps.extend(steps)


def _step_convert(section: Section, context: StepContext) -> list[StepDraft]:
    name = section.text("name")
    action = section.text("uses")
    original = scalar_text(members_of(section.node).get("run")) or action or ""
    section.take("id")
    title = re.sub(r"\$\{\{(.*?)\}\}", r"\1", name) if name else None
    condition_node = section.take("if")
    guard: Outcome = True
    try:
        guard = _guard(scalar_text(condition_node), section, context)
        if guard is False:
            section.note("if", "is never true here, so the step was left out", condition_node)
            return []
        steps = _action(action, section, context) if action else [_script(section, context)]
    except Unmapped as problem:
        _take_all(section)
        section.note("run" if not action else "uses", str(problem), section.node)
        stop = by_hand_step(title or one_line(original), f"line {section.line}: {problem}", original)
        _guarded(stop, guard, section, context)
        return [stop]
    for step in steps:
        step.name = one_line(title or step.name or "") or None
        _guarded(step, guard, section, context)
    for note in context.values.notes:
        section.note("if", note, condition_node)
    _settings(steps, section, context)
    return steps


def _take_all(section: Section) -> None:
    for name in ("run", "with", "env", "shell", "working-directory", "timeout-minutes", "continue-on-error"):
        section.take(name)


def _guard(text: str | None, section: Section, context: StepContext) -> Outcome:
    """When the step runs. It has not run after a failure, whatever it asks for."""
    if text is None:
        return True
    if _STATUS_CALL.search(text):
        section.note("if", f"{quoted(text)!r} asks for the result of the steps before; after a failed step none runs")
        if re.search(r"(?<!!)\b(failure|cancelled)\(\)", text) and not re.search(r"\b(always|success)\(\)", text):
            return False
        text = re.sub(r"!\s*(?:failure|cancelled)\(\)", "true", text)
        text = re.sub(r"\b(?:always|success)\(\)", "true", text)
        text = re.sub(r"\b(?:failure|cancelled)\(\)", "false", text)
    return context.values.condition(_without_outputs(text))


def _without_outputs(text: str) -> str:
    if re.search(r"\bsteps\.", text):
        raise Unmapped("outputs of steps cannot be in a condition; test them in the script")
    return text


def _guarded(step: StepDraft, guard: Outcome, section: Section, context: StepContext) -> None:
    if isinstance(guard, Condition):
        if "env." in guard.text:
            section.note("if", "variables in conditions of steps are not known here; test them in the script")
            step.run = by_hand_step(None, f"line {section.line}: the condition of this step", step.run).run
            return
        name = hoist(context.job, f"if {guard.text}"[:60], "${{ " + guard.text + " }}")
        step.run = f'[ "${name}" = true ] || exit 0\n{step.run}'


def _settings(steps: list[StepDraft], section: Section, context: StepContext) -> None:
    minutes = section.text("timeout-minutes")
    if minutes and minutes.isdecimal():
        for step in steps:
            step.timeout = duration_of(int(minutes[:6]) * 60)
    elif minutes:
        section.note("timeout-minutes", f"{quoted(minutes)!r} is no number of minutes")
    node = section.take("continue-on-error")
    if truth(node):
        for step in steps:
            step.run = f"{with_shell(step.run, 'sh -e').removeprefix('exec ').rstrip()}\n"
            first, _, rest = step.run.partition("\n")
            step.run = f"{first} || echo 'this step failed, which it may' >&2\n{rest}"
    elif node is not None and truth(node) is None:
        section.note("continue-on-error", "is not true or false; the job fails if this step fails", node)
    _environment(steps, section.section("env"), context)


def _environment(steps: list[StepDraft], env: Section, context: StepContext) -> None:
    for name, node in members_of(env.node).items():
        env.take(name)
        text = scalar_text(node) or ""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
            env.note(name, "is no name of a variable", node)
            continue
        try:
            for step in steps:
                if "${{" in text:
                    value = context.values.shell_value(text)
                    step.run = f"export {name}={value}\n{step.run}" if value != f'"${{{name}}}"' else step.run
                else:
                    step.env[name] = text
        except Unmapped as problem:
            env.note(name, f"{problem}; the variable is missing, so the step stops", node)
            for step in steps:
                step.run, step.by_hand = f"{variable_line(name)}\n{step.run}", True
    env.close()


def _script(section: Section, context: StepContext) -> StepDraft:
    script = section.text("run") or ""
    shell = section.text("shell") or context.shell
    folder = section.text("working-directory") or context.folder
    if not script.strip():
        raise Unmapped("the step has no script")
    if shell and shell.split()[0] not in _SHELLS:
        raise Unmapped(f"the shell {quoted(shell)!r} has no counterpart; steps run with sh")
    if lost := _NO_COUNTERPART.search(script):
        raise Unmapped(f"{lost[0].replace('{', '')} has no counterpart")
    run, preludes = _outputs_read(script, context)
    run = context.values.shell(run)
    run = _outputs_write(run)
    if folder:
        preludes.append(f"cd {context.values.shell_value(folder)}")
    preludes[:0] = [_HANDED_ON[key][1].format(_HANDED_ON[key][0]) for key in sorted(context.handed_on)]
    _hand_on(script, context)
    step = StepDraft(run="")
    body = with_shell(run, _SHELLS[shell.split()[0]] if shell and shell.split()[0] != "sh" else None)
    # What the script reads of the product's own variables is set around it, whatever its interpreter.
    around = StepDraft(run=run)
    given = Variables(("GITHUB_", "RUNNER_"), {**VARIABLES, "RUNNER_OS": context.values.runner}, dict(_COMMANDS))
    missing = given.give(context.job, around, by_default=set())
    first = around.run[: len(around.run) - len(run)].splitlines()
    for name in missing:
        section.note("run", f"${name} is not set here, so the step stops; give it a value in `env`", section.node)
    step.run, step.by_hand = "\n".join([*first, *preludes, body]), bool(missing)
    return step


def _hand_on(script: str, context: StepContext) -> None:
    """Note that later steps get what this one hands on. Raises Unmapped for values of several lines."""
    names = {name for name in _HANDED_ON if re.search(rf"\b{name}\b", script)}
    if "GITHUB_ENV" in names and re.search(r"[A-Za-z_]\w*<<", script):
        raise Unmapped("a variable of several lines cannot be handed on to later steps")
    context.handed_on |= names


def _outputs_write(script: str) -> str:
    if not re.search(r"\bGITHUB_OUTPUT\b", script):
        return script
    if re.search(r"[A-Za-z_]\w*<<", script):
        raise Unmapped("an output of several lines has no counterpart; an output is one line NAME=value")
    return re.sub(r"\bGITHUB_OUTPUT\b", "HYBRID_CI_OUTPUT", script)


def _outputs_read(script: str, context: StepContext) -> tuple[str, list[str]]:
    """A script that reads what an earlier step wrote to the file of outputs, from where that is now."""
    preludes: list[str] = []

    def variable(match: re.Match[str]) -> str:
        step, output = match[1], match[2]
        if output_name(output) != output:
            raise Unmapped(f"the output {quoted(output, 40)} has a name that outputs cannot have here")
        writers = [name for name, text in context.scripts.items() if re.search(rf"\b{re.escape(output)}=", text)]
        if writers != [step]:
            raise Unmapped(f"steps.{quoted(step, 40)}.outputs.{quoted(output, 40)} is not written by one script alone")
        if output not in context.job.outputs:
            context.job.outputs.append(output)
        name = re.sub(r"[^A-Za-z0-9]", "_", f"output_{output}").upper()
        line = f"""export {name}="$(sed -n 's/^{output}=//p' "$HYBRID_CI_OUTPUT" | tail -n 1)\""""
        if line not in preludes:
            preludes.append(line)
        return "${{ env." + name + " }}"

    return _STEP_OUTPUT.sub(variable, script), preludes


def _action(action: str, section: Section, context: StepContext) -> list[StepDraft]:
    name, _, version = action.partition("@")
    options = section.section("with")
    known = _ACTIONS.get(name.lower())
    if known is not None:
        steps = known(options, context)
        options.close()
        return steps
    if name.lower() in _TOOLS:
        return [_tool(name.lower(), version, options, section, context)]
    for option in members_of(options.node):
        options.take(option)
    command = _ACTION_COMMANDS.get(name.lower())
    if command:
        section.note("uses", f"the action {name} became its command, {command!r}, without its options", section.node)
        return [StepDraft(run=command, name=name)]
    reason = f"the action {quoted(action, 100)} is not run here; write a script that does what it does"
    section.note("uses", reason, section.node)
    return [by_hand_step(action, f"line {section.line}: {reason}", _as_yaml(options.node))]


def _as_yaml(node: Value | None) -> str:
    members = {name: scalar_text(member) or "…" for name, member in members_of(node).items()}
    return yaml.safe_dump({"with": members}, allow_unicode=True, sort_keys=False) if members else ""


def _tool(action: str, version: str, options: Section, section: Section, context: StepContext) -> StepDraft:
    command, key, image = _TOOLS[action]
    wanted = options.text(key) or (version if action == "dtolnay/rust-toolchain" else "")
    for option in members_of(options.node):
        options.take(option)
    tool = command.split()[0]
    which = f"{tool} {quoted(wanted, 40)}".strip()
    example = f", for example container: {image}:{wanted}" if image and re.fullmatch(r"[\w.]+", wanted) else ""
    where = "the container" if context.job.container else f"the agent's machine or in a container{example}"
    section.note("uses", f"installs nothing here: {which} must be on {where}; the step shows its version", section.node)
    return StepDraft(run=command, name=f"{which} must be there")


def _checkout(options: Section, context: StepContext) -> list[StepDraft]:
    if options.text("submodules") in ("true", "recursive"):
        context.job.submodules = True
    for name in ("repository", "ref", "path", "ssh-key"):
        text = options.text(name)
        if text and name in ("repository", "ref", "path"):
            raise Unmapped(f"a checkout with {name}: {quoted(text)} is not made here; write it as a script with git")
    depth = options.text("fetch-depth")
    if depth is not None and depth != "1":
        options.note(
            "fetch-depth", "agents fetch only the commit itself; `git fetch --unshallow` in a step gets history"
        )
    for name in ("persist-credentials", "token", "lfs", "fetch-tags", "clean", "show-progress"):
        if options.take(name) is not None and name == "fetch-tags":
            options.note(name, "agents fetch no tags; `git fetch --tags` in a step gets them")
    return []


def _upload(options: Section, context: StepContext) -> list[StepDraft]:
    options.take("name")
    days = options.text("retention-days")
    if days and days.isdecimal() and 0 < int(days[:4]) <= 365:
        context.job.expire_in = f"{int(days) * 24}h"
    for path in (options.text("path") or "").splitlines():
        text = path.strip()
        if text.startswith("!"):
            options.note("path", f"{quoted(text)} leaves files out, which has no counterpart")
        elif text.startswith(("/", "~", "..")):
            options.note("path", f"{quoted(text)} is outside of the workspace; copy it there first")
        elif text:
            context.job.artifacts.append(context.values.inline(text))
    for name in ("if-no-files-found", "compression-level", "overwrite", "include-hidden-files"):
        options.take(name)
    return []


def _download(options: Section, context: StepContext) -> list[StepDraft]:
    name, pattern = options.text("name"), options.text("pattern")
    options.take("merge-multiple")
    options.take("github-token")
    wanted = _fixed(name or pattern or "*")
    jobs = [job for there, found in context.artifacts.items() if fnmatchcase(_fixed(there), wanted) for job in found]
    if not jobs:
        raise Unmapped(f"no job of this file uploads the artifact {quoted(name or pattern or '(all)')!r}")
    for job in jobs:
        if job not in (context.job.name, *context.job.take):
            context.job.take.append(job)
            if job not in context.job.needs:
                options.note("name", f"the job needs {job} now, whose artifacts it takes")
                context.job.needs[job] = "success"
    if options.take("path") is not None:
        options.note("path", "artifacts come to the paths that they had in the job that made them")
    return []


def _cache(options: Section, context: StepContext) -> list[StepDraft]:
    paths = [line.strip() for line in (options.text("path") or "").splitlines() if line.strip()]
    inside = [path for path in paths if not path.startswith(("/", "~", "..", "!", "$"))]
    for path in paths:
        if path not in inside:
            options.note("path", f"{quoted(path)} is outside of the workspace, where nothing is cached")
    key = context.values.inline(options.text("key") or "", files=True)
    restore = [
        context.values.inline(line.strip(), files=True) for line in (options.text("restore-keys") or "").split("\n")
    ]
    for name in ("enableCrossOsArchive", "fail-on-cache-miss", "lookup-only", "save-always"):
        options.take(name)
    if inside and key:
        cache = {"key": key, "restore_keys": [text for text in restore if text], "paths": inside}
        context.job.caches.append({name: value for name, value in cache.items() if value})
    return []


def _rust_cache(options: Section, context: StepContext) -> list[StepDraft]:
    for option in members_of(options.node):
        options.take(option)
    context.job.caches.append(
        {"key": "cargo-${{ hashFiles('**/Cargo.lock') }}", "restore_keys": ["cargo-"], "paths": ["target"]}
    )
    options.note("uses", "became a cache of target/; ~/.cargo is outside of the workspace")
    return []


def _fixed(name: str) -> str:
    """The name of an artifact with a fixed text for what only a run knows."""
    return re.sub(r"\$\{\{.*?\}\}", "x", name)


_ACTIONS: dict[str, Callable[[Section, StepContext], list[StepDraft]]] = {
    "actions/checkout": _checkout,
    "actions/upload-artifact": _upload,
    "actions/download-artifact": _download,
    "actions/cache": _cache,
    "actions/cache/restore": _cache,
    "swatinem/rust-cache": _rust_cache,
}
