"""One step of Buildkite that runs commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from apps.pipelines.definitions import SECRET_NAME
from apps.pipelines.importing.buildkite_conditions import Conditions, branches_condition
from apps.pipelines.importing.drafts import MAX_LABELS, JobDraft, MatrixDraft, StepDraft, duration_of, label_of, name_of
from apps.pipelines.importing.expressions import Condition, Outcome, both, text_literal, without_braces
from apps.pipelines.importing.foreign import Mapping, Value, entries_of, members_of, scalar_text, truth
from apps.pipelines.importing.remarks import Remarks, Unmapped, quoted
from apps.pipelines.importing.scripts import POWERSHELL, by_hand_step, with_shell
from apps.pipelines.importing.sections import Section
from apps.pipelines.importing.values import hoist, piece
from apps.pipelines.importing.variables import Variables

# What the variables of Buildkite are here.
FACTS = {
    "BUILDKITE_COMMIT": piece("commit"),
    "BUILDKITE_BRANCH": piece("branch") + piece("tag"),
    "BUILDKITE_TAG": piece("tag"),
    "BUILDKITE_SOURCE": piece("event"),
    "BUILDKITE_PIPELINE_SLUG": piece("pipeline"),
    "BUILDKITE_PIPELINE_NAME": piece("pipeline"),
    "BUILDKITE_PIPELINE_DEFAULT_BRANCH": piece("default_branch"),
    "BUILDKITE": "false",
}
_MATRIX = re.compile(r"(?<!\$)\{\{\s*matrix(?:\.([A-Za-z0-9_-]+))?\s*\}\}")
_DOWNLOAD = re.compile(r"^[ \t]*buildkite-agent artifact download\s+(.+)$", re.MULTILINE)
_UPLOAD = re.compile(r"^[ \t]*buildkite-agent artifact upload\s+(\S+|\"[^\"]*\"|'[^']*')[ \t]*$", re.MULTILINE)
_AGENT = re.compile(r"\bbuildkite-agent\s+([a-z-]+)(?:\s+([a-z-]+))?")
_MAX_CELLS = 200
# Plugins that put a tool on the machine, by what shows that it is there.
_TOOLS = {"julia": "julia --version", "mise": "mise --version", "asdf": "asdf --version", "golang": "go version",
          "nvm": "node --version", "pyenv": "python3 --version", "rbenv": "ruby --version"}  # fmt: skip
_LEFT = {
    "notify": "nothing is sent from a file here",
    "cancel_on_build_failing": "a job goes on when another one fails; fail_fast is for cells of a matrix",
    "signature": "files are not signed",
    "concurrency_method": "jobs of a group wait in order",
}


class StepReader:
    """Converts one step. `downloads` are the keys of the steps whose artifacts its script gets; "": any."""

    def __init__(
        self,
        section: Section,
        draft: JobDraft,
        variables: Variables,
        by_default: set[str],
        ask: Callable[[str, int], None],
        remarks: Remarks,
    ) -> None:
        self._section = section
        self._draft = draft
        self._variables = variables
        self._by_default = by_default
        self._ask = ask
        self._remarks = remarks
        self._axes: dict[str, str] = {}
        self._wrap: Callable[[str], str] | None = None
        self.downloads: list[str] = []

    def convert(self, defaults: dict[str, Value | None]) -> Outcome:
        """Fill in the draft, but for its needs. Returns when the step runs."""
        section = self._section
        self._environment()
        self._matrix()
        outcome = self.condition()
        self._agents(section.take("agents") or defaults["agents"])
        image = section.text("image") or scalar_text(defaults["image"])
        if image:
            self._draft.container = self._text(image, "image")
        self._secrets(section.take("secrets") or defaults["secrets"])
        self._plugins()
        self._limits()
        self._artifacts()
        self._cache()
        self._script()
        section.leave(_LEFT)
        return outcome

    def condition(self) -> Outcome:
        """What `if`, `branches`, `if_changed` and `skip` say."""
        section = self._section
        conditions = Conditions(self._known(), lambda name: self._ask(name, section.line))
        parts: list[Outcome] = []
        text, branches = section.text("if"), section.texts("branches")
        changes = section.take("if_changed")
        try:
            if text:
                parts.append(conditions.condition(text))
            parts.append(branches_condition(branches))
            if changes is not None:
                parts.append(self._changed(changes))
        except Unmapped as problem:
            self._stop("if", str(problem))
            return True
        for note in conditions.notes:
            section.note("if", note)
        skip = section.take("skip")
        if skip is not None and truth(skip) is not False and scalar_text(skip):
            section.note("skip", "the step is skipped; its job never runs", skip)
            return False
        return both(*parts)

    def finish(self) -> None:
        """For a group: what it says of its own has no script."""
        if self._draft.steps:
            self._section.note("if", "the condition of the group was not converted; its jobs run without it")

    def _known(self) -> set[str]:
        own = {name for name, value in self._variables.values.items() if "$" not in value}
        return (own & {*self._draft.env}) | self._by_default

    def _changed(self, node: Value) -> Outcome:
        members = members_of(node)
        if "exclude" in members:
            raise Unmapped("paths that are left out have no counterpart in changed()")
        paths = [text for entry in entries_of(members.get("include", node)) if (text := scalar_text(entry))]
        paths = [whole for path in paths for whole in without_braces(path)]
        return Condition(f"changed({', '.join(text_literal(path) for path in paths)})") if paths else True

    def _stop(self, name: str, reason: str, original: str = "") -> None:
        node = members_of(self._section.node).get(name) or self._section.node
        line = node.line if node is not None else 1
        self._section.note(name, reason, node)
        self._draft.steps.append(by_hand_step(name, f"line {line}, {name}: {reason}", original))

    def _text(self, text: str, name: str) -> str | None:
        """A text with its variables and values of the matrix."""
        try:
            return _MATRIX.sub(lambda match: piece(self._axis(match)), self._variables.expand(text))
        except Unmapped as problem:
            self._section.note(name, f"{quoted(text)!r}: {problem}", members_of(self._section.node).get(name))
            return None

    def _axis(self, match: re.Match[str]) -> str:
        axis = self._axes.get(match[1] or "")
        if axis is None:
            raise Unmapped(f"{match[0]} is no axis of the matrix")
        return f"matrix.{axis}"

    def _environment(self) -> None:
        node = self._section.take("env")
        members = members_of(node)
        for entry in entries_of(node) if not members else []:
            name, separator, value = (scalar_text(entry) or "").partition("=")
            if separator:
                self._variables.values[name] = value
                self._by_default.discard(name)
        for name, member in members.items():
            self._variables.values[name] = scalar_text(member) or ""
            self._by_default.discard(name)

    def _matrix(self) -> None:
        node = self._section.take("matrix")
        number = self._section.text("parallelism")
        if number and number.isdecimal() and 1 <= int(number[:4]) <= 1000:
            self._draft.matrix = MatrixDraft(axes={"index": [str(index) for index in range(int(number[:4]))]})
            self._variables.templates["BUILDKITE_PARALLEL_JOB"] = piece("matrix.index")
            self._variables.templates["BUILDKITE_PARALLEL_JOB_COUNT"] = number
        if node is None:
            return
        try:
            self._draft.matrix = self._matrix_read(node)
        except Unmapped as problem:
            self._axes = {}
            self._draft.matrix = None
            self._stop("matrix", str(problem))

    def _matrix_read(self, node: Value) -> MatrixDraft:
        setup = members_of(node).get("setup", node)
        lists: dict[str, list[str]]
        if isinstance(setup, Mapping):
            lists = {
                name: [scalar_text(entry) or "" for entry in entries_of(member)]
                for name, member in setup.members.items()
            }
        else:
            lists = {"": [scalar_text(entry) or "" for entry in entries_of(setup)]}
        self._axes = {name: name_of(name) if name else "value" for name in lists}
        matrix = MatrixDraft(axes={self._axes[name]: values for name, values in lists.items()})
        for entry in entries_of(members_of(node).get("adjustments")):
            self._adjust(entry, lists, matrix)
        values = [value for listed in lists.values() for value in listed]
        values += [value for cell in matrix.cells for value in cell.values()]
        if not all(
            value.strip() and value.isprintable() and len(value) <= 100 and "$" not in value for value in values
        ):
            raise Unmapped("a value of the matrix is empty, too long or made of variables")
        if len(lists) > 10 or _count(lists) > _MAX_CELLS:
            raise Unmapped(f"the matrix has more than {_MAX_CELLS} jobs")
        return matrix

    def _adjust(self, entry: Value, lists: dict[str, list[str]], matrix: MatrixDraft) -> None:
        options = members_of(entry)
        given = options.get("with")
        texts = {name: scalar_text(value) or "" for name, value in members_of(given).items()} or {
            "": scalar_text(given) or ""
        }
        if not texts.keys() <= lists.keys():
            raise Unmapped("an adjustment names another axis than `setup`")
        cell = {self._axes[name]: text for name, text in texts.items()}
        is_there = all(text in lists[name] for name, text in texts.items())
        skip = options.get("skip")
        if skip is not None and truth(skip) is not False and scalar_text(skip):
            if is_there:
                matrix.exclude.append(cell)
            return
        if not is_there:
            matrix.cells.append(cell)
        if "soft_fail" in options:
            self._section.note(
                "matrix", "cells that may fail alone have no counterpart; any failure fails the run", entry
            )

    def _agents(self, node: Value | None) -> None:
        members = members_of(node)
        pairs = [(name, scalar_text(value) or "") for name, value in members.items()]
        if not members:
            pairs = [
                (text.partition("=")[0], text.partition("=")[2])
                for entry in entries_of(node)
                if (text := scalar_text(entry))
            ]
        for name, value in pairs:
            if name == "queue" and value == "default":
                continue
            text = self._text(value if name == "queue" else f"{name}={value}", "agents")
            label = text if text and "${{" in text else label_of(text) if text else None
            if label and len(self._draft.labels) < MAX_LABELS:
                self._draft.labels.append(label)

    def _secrets(self, node: Value | None) -> None:
        for name, value in members_of(node).items():
            self._secret(name)
            self._section.note(
                "secrets", f"{quoted(name, 60)} was the secret {quoted(scalar_text(value) or '?', 60)}", node
            )
        for entry in entries_of(node) if not members_of(node) else []:
            self._secret(scalar_text(entry) or "")

    def _secret(self, name: str) -> None:
        if SECRET_NAME.fullmatch(name) and len(self._draft.secrets) < 50:
            self._draft.secrets.append(name)

    def _plugins(self) -> None:
        node = self._section.take("plugins")
        for entry in entries_of(node):
            members: dict[str, Value | None] = {**members_of(entry)} or {scalar_text(entry) or "?": None}
            for name, config in members.items():
                self._plugin(name, config, entry)

    def _plugin(self, name: str, config: Value | None, entry: Value) -> None:
        short = name.partition("#")[0].rpartition("/")[2].removesuffix(".git").removesuffix("-buildkite-plugin")
        options = Section(config, f"{self._section.subject}.plugins.{quoted(name, 60)}", self._remarks)
        known = {"docker": self._docker, "docker-compose": self._compose, "artifacts": self._artifacts_plugin}.get(
            short
        )
        if known is not None and known(options):
            options.close()
            return
        for key in members_of(config):
            options.take(key)
        if short in _TOOLS:
            version = scalar_text(members_of(config).get("version")) or ""
            wanted = f"{short} {quoted(version, 40)}".strip()
            message = f"installs nothing here: {wanted} must be on the agent's machine"
            self._remarks.add(entry.line, options.subject, message)
            self._draft.steps.append(StepDraft(run=_TOOLS[short], name=f"{short} must be there"))
            return
        reason = "the plugin is not run here; write a script that does what it does"
        self._remarks.add(entry.line, options.subject, reason)
        self._draft.steps.append(by_hand_step(f"plugin {name}", f"line {entry.line}, {name}: {reason}"))

    def _docker(self, options: Section) -> bool:
        image = options.text("image")
        if not image:
            return False
        self._draft.container = self._text(image, "plugins")
        for name in ("always-pull", "mount-checkout", "propagate-environment", "workdir", "propagate-uid-gid", "debug"):
            options.take(name)
        self._plugin_environment(options)
        return True

    def _plugin_environment(self, options: Section) -> None:
        for text in options.texts("environment"):
            name, separator, value = text.partition("=")
            if separator and re.fullmatch(r"[A-Za-z_]\w{0,254}", name):
                expanded = self._text(value, "plugins")
                if expanded is not None:
                    self._draft.env[name] = expanded

    def _compose(self, options: Section) -> bool:
        service = options.text("run")
        if not service or not re.fullmatch(r"[A-Za-z0-9_.-]+", service):
            return False
        files = " ".join(f"-f {shlex.quote(file)}" for file in options.texts("config"))
        command = f"docker compose {files} run --rm -T".replace("  ", " ")
        self._plugin_environment(options)
        for name in ("env", "environment"):
            for text in options.texts(name):
                command += f" -e {shlex.quote(text.partition('=')[0])}"
        if self._wrap is None:
            self._wrap = lambda script: f"{command} {service} sh -e -c {shlex.quote(script)}\n"
        for name in ("cli-version", "dependencies", "tty", "pull", "no-cache", "ansi"):
            options.take(name)
        self._remarks.add(options.line, options.subject, "became `docker compose run`; the agent's machine needs it")
        return True

    def _artifacts_plugin(self, options: Section) -> bool:
        for text in [*options.texts("upload")]:
            self._artifact(text, "plugins")
        downloads = options.texts("download")
        if downloads:
            self.downloads.append(options.text("step") or "")
        options.take("build")
        return True

    def _artifacts(self) -> None:
        for text in self._section.texts("artifact_paths"):
            for path in text.split(";"):
                self._artifact(path, "artifact_paths")

    def _artifact(self, text: str, name: str) -> None:
        path = self._text(text.strip().removeprefix("./"), name)
        if not path:
            return
        if path.startswith(("/", "~", "s3:")) or ".." in path.split("/") or "\\" in path or not path.isprintable():
            self._section.note(
                name, f"{quoted(text)!r} is no path in the workspace", members_of(self._section.node).get(name)
            )
        elif path not in self._draft.artifacts and len(self._draft.artifacts) < 100:
            self._draft.artifacts.append(path)

    def _cache(self) -> None:
        node = self._section.take("cache")
        if node is None:
            return
        options = members_of(node)
        listed = entries_of(options.get("paths") if options else node)
        paths = [
            path for entry in listed if (path := scalar_text(entry)) and not path.startswith(("/", "~", "..", "$"))
        ]
        if paths:
            self._draft.caches.append({"key": scalar_text(options.get("name")) or self._draft.name, "paths": paths})
        if len(paths) < len(listed):
            self._section.note("cache", "paths outside of the workspace are not cached", node)

    def _limits(self) -> None:
        section, draft = self._section, self._draft
        minutes = section.text("timeout_in_minutes")
        if minutes and minutes.isdecimal():
            draft.timeout = duration_of(int(minutes[:6]) * 60)
        else:
            # Without a limit there, and with one of an hour here.
            draft.timeout = "24h"
            if minutes:
                section.note("timeout_in_minutes", f"{quoted(minutes)!r} is no number of minutes")
        group, limit = section.text("concurrency_group"), section.text("concurrency")
        name = self._text(group, "concurrency_group") if group else None
        if name:
            draft.concurrency = {"group": name}
            if limit and limit.isdecimal() and 1 < int(limit[:5]) <= 1000:
                draft.concurrency["limit"] = int(limit)
        if scalar_text(members_of(section.node).get("concurrency_method")) == "ordered":
            section.take("concurrency_method")
        priority = section.text("priority")
        if priority and re.fullmatch(r"-?\d{1,6}", priority):
            draft.priority = max(0, min(100, 50 + int(priority)))
        self._soft_fail(section.take("soft_fail"))
        self._retry(section.take("retry"))

    def _soft_fail(self, node: Value | None) -> None:
        statuses = [scalar_text(members_of(entry).get("exit_status")) for entry in entries_of(node)]
        if truth(node) is True or "*" in statuses:
            self._draft.allow_failure = True
        elif node is not None and truth(node) is not False:
            self._section.note(
                "soft_fail", "exit codes that may fail have no counterpart; any failure fails the run", node
            )

    def _retry(self, node: Value | None) -> None:
        retry = Section(node, self._section.path("retry"), self._remarks)
        automatic = retry.take("automatic")
        if members_of(retry.take("manual")).get("allowed") is not None:
            self._section.note("retry", "any job of a run can be retried by hand here", node)
        retry.close()
        if automatic is None or truth(automatic) is False:
            return
        on, most = {"lost"}, 2 if truth(automatic) else 0
        statuses: list[str] = ["*"] if truth(automatic) else []
        for entry in entries_of(automatic) if not truth(automatic) else []:
            members = members_of(entry)
            limit = scalar_text(members.get("limit")) or "2"
            most = max(most, min(int(limit[:3]), 10) if limit.isdecimal() else 2)
            listed = [scalar_text(status) or "" for status in entries_of(members.get("exit_status"))]
            statuses += listed if listed or "signal_reason" in members or "signal" in members else ["*"]
        for status in statuses:
            if status.isdecimal() and 0 < int(status[:4]) < 256:
                on.add(str(int(status)))
            elif status == "*":
                on.add("1")
                self._section.note("retry", "jobs run again only after the exit codes in `on`; 1 was taken", node)
        self._draft.retries = {"max": most, "on": sorted(on, key=lambda code: (code != "lost", len(code), code))[:50]}

    def _script(self) -> None:
        section = self._section
        trigger = section.take("trigger")
        commands = [*section.texts("command"), *section.texts("commands")]
        script = "\n".join(commands).strip()
        if "trigger" in members_of(section.node):
            for name in ("build", "async"):
                section.take(name)
            self._stop("trigger", "starts another pipeline; send POST /runs for it, or copy its jobs")
        elif not script:
            if not self._draft.steps:
                self._stop("command", "the step has no command")
            return
        if trigger is not None or not script:
            return
        if POWERSHELL.search(script):
            self._stop("command", "the script is for PowerShell; steps run with sh", script)
            return
        self._command(script)

    def _command(self, script: str) -> None:
        try:
            run = self._transfers(script)
            run = _MATRIX.sub(lambda match: f"${{{self._hoisted(match)}}}", run)
        except Unmapped as problem:
            self._stop("command", str(problem), script)
            return
        # What was not filled in when the pipeline was uploaded is for the shell.
        run = run.replace("$$", "$").replace("\\${", "${")
        step = StepDraft(run=run if run.endswith("\n") or "\n" not in run else f"{run}\n", name="command")
        missing = self._variables.give(self._draft, step, by_default=self._by_default)
        where = members_of(self._section.node).get("command") or members_of(self._section.node).get("commands")
        for name in missing:
            self._section.note(
                "command", f"${name} is not set here, so the script stops; give it a value in `env`", where
            )
        used = _AGENT.search(run)
        if used:
            self._section.note(
                "command", f"{quoted(used[0])!r} has no counterpart: agents here are other programs", where
            )
        step.by_hand = bool(missing or used)
        for name in self._variables.secrets(step):
            if name not in self._draft.secrets:
                self._secret(name)
                self._section.note("command", f"${name} looks like a secret; give the pipeline one of that name", where)
        step.run = with_shell(step.run, None)
        if self._wrap is not None:
            step.run = self._wrap(step.run)
        self._draft.steps.append(step)

    def _hoisted(self, match: re.Match[str]) -> str:
        return hoist(self._draft, self._axis(match), piece(self._axis(match)))

    def _transfers(self, script: str) -> str:
        """A script without the commands that carry artifacts, which the agent does by itself here."""

        def download(match: re.Match[str]) -> str:
            words = match[1].split()
            step = next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "--step"), "")
            self.downloads.append(step.strip("\"'"))
            return f": {shlex.quote(f'artifacts are here already: {match[1].strip()}')}"

        def upload(match: re.Match[str]) -> str:
            self._artifact(match[1].strip("\"'"), "command")
            return f": {shlex.quote(f'artifacts are kept after the job: {match[1]}')}"

        return _UPLOAD.sub(upload, _DOWNLOAD.sub(download, script))


def _count(lists: dict[str, list[str]]) -> int:
    count = 1
    for values in lists.values():
        count *= len(values)
    return count
