"""One job of GitLab CI."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

from apps.pipelines.importing.drafts import (
    MAX_LABELS,
    JobDraft,
    MatrixDraft,
    StepDraft,
    duration_of,
    label_of,
    name_of,
)
from apps.pipelines.importing.durations import seconds_read
from apps.pipelines.importing.expressions import Condition, both, negated, text_literal
from apps.pipelines.importing.foreign import (
    Mapping,
    Scalar,
    Sequence,
    Value,
    entries_of,
    members_of,
    scalar_text,
    truth,
)
from apps.pipelines.importing.gitlab_rules import Rules, Verdict
from apps.pipelines.importing.remarks import Remarks, Unmapped, quoted
from apps.pipelines.importing.scripts import POWERSHELL, by_hand_step, with_finish, with_shell
from apps.pipelines.importing.sections import Section
from apps.pipelines.importing.values import piece
from apps.pipelines.importing.variables import Variables

_REF = piece("branch") + piece("tag")
# What the variables of GitLab are here.
FACTS = {
    "CI_COMMIT_SHA": piece("commit"),
    "CI_COMMIT_REF_NAME": _REF,
    "CI_COMMIT_BRANCH": piece("branch"),
    "CI_COMMIT_TAG": piece("tag"),
    "CI_DEFAULT_BRANCH": piece("default_branch"),
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": piece("branch"),
    "CI_PIPELINE_SOURCE": piece("event"),
    "CI_PROJECT_NAME": piece("pipeline"),
    "GITLAB_CI": "false",
}
_MAX_CELLS = 200
_LOST = frozenset(("runner_system_failure", "stuck_or_timeout_failure", "scheduler_failure", "stale_schedule"))
_LEFT = {
    "coverage": "the coverage comes from a Cobertura file; write it in `reports`",
    "interruptible": "write `concurrency` with cancel_in_progress to cancel older runs",
    "id_tokens": "a step asks for one itself: agent.pyz token --audience NAME",
    "secrets": "give the job secrets by their names in `secrets`",
    "hooks": "write what the hook does in the script",
    "release": "makes no release here; add a step that does",
    "pages": "publishes nothing here; add a step that does",
    "publish": "publishes nothing here; add a step that does",
    "start_in": "nothing is delayed here; the job starts at once",
    "dast_configuration": "has no counterpart",
    "manual_confirmation": "has no counterpart",
    "identity": "steps get no identity of a cloud",
    "run": "write the steps as a script",
}


class JobReader:
    """Converts one job. `draft` is the result; `stage`, `needs` and `dependencies` say where it belongs."""

    def __init__(
        self,
        there: str,
        node: Mapping,
        name: str,
        variables: Variables,
        remarks: Remarks,
        by_default: set[str],
        ask: Callable[[str, int], None],
    ) -> None:
        self._remarks = remarks.scope()
        self.section = Section(node, f"jobs.{quoted(there, 40)}", self._remarks)
        self.draft = JobDraft(name, line=node.line)
        self.stage = "test"
        self.needs: list[dict[str, str | int]] | None = None
        self.dependencies: list[str] | None = None
        self._there = there
        self._variables = variables
        self._by_default = by_default
        self._ask = ask

    def convert(self, missing: list[str]) -> Verdict:
        """Fill in the draft. `missing` is what the job is made of that is not in the file."""
        section = self.section
        if self._there != self.draft.name:
            self.draft.comments.append(self._there)
        self.stage = section.text("stage") or "test"
        section.take("extends")
        if missing:
            self._stop(
                "extends",
                f"{quoted(', '.join(dict.fromkeys(missing)), 120)} is not in this file; its part of the job is missing",
            )
        self._own_variables()
        self._parallel()
        self._places()
        self._named_needs()
        verdict = self._verdict()
        self._artifacts()
        self._caches()
        self._limits()
        self._environment()
        self._script(bool(missing))
        section.take("inherit")
        if truth(members_of(section.node).get("interruptible")) is False:
            section.take("interruptible")
        section.leave(_LEFT)
        return verdict

    def close(self) -> None:
        """Note what is left, and keep all remarks as comments."""
        self.section.close()
        self.draft.comments += self._remarks.close()

    def _stop(self, name: str, reason: str, original: str = "") -> None:
        node = members_of(self.section.node).get(name) or self.section.node
        line = node.line if node is not None else 1
        self.section.note(name, reason, node)
        self.draft.steps.append(by_hand_step(name, f"line {line}, {name}: {reason}", original))

    def _expanded(self, text: str, name: str) -> str | None:
        try:
            return self._variables.expand(text)
        except Unmapped as problem:
            self.section.note(name, f"{quoted(text)!r}: {problem}", members_of(self.section.node).get(name))
            return None

    def _own_variables(self) -> None:
        section = self.section.section("variables")
        for name, node in members_of(section.node).items():
            section.take(name)
            options = members_of(node)
            value = scalar_text(options.get("value")) if options else scalar_text(node)
            if scalar_text(options.get("expand")) == "false":
                self._variables.raw.add(name)
            self._variables.values[name] = value or ""
            self._variables.templates.pop(name, None)
        section.close()
        # Those whose values are the same for all jobs are at the top of the file.
        changed = {*members_of(section.node)}
        self._by_default = {name for name in self._by_default if name not in changed}

    def _parallel(self) -> None:
        node = self.section.take("parallel")
        text = scalar_text(node) or ""
        if text.isdecimal() and 0 < int(text[:4]) <= _MAX_CELLS:
            self.draft.matrix = MatrixDraft(axes={"index": [str(number) for number in range(1, int(text[:4]) + 1)]})
            self._variables.templates |= {"CI_NODE_INDEX": piece("matrix.index"), "CI_NODE_TOTAL": text}
        elif node is not None:
            try:
                self._matrix(entries_of(members_of(node).get("matrix")))
            except Unmapped as problem:
                self._stop("parallel", str(problem))

    def _matrix(self, entries: list[Value]) -> None:
        lists = [
            {name: [scalar_text(value) or "" for value in entries_of(node)] for name, node in members_of(entry).items()}
            for entry in entries
        ]
        texts = [text for entry in lists for values in entry.values() for text in values]
        if not texts or not all(text.strip() and text.isprintable() and len(text) <= 100 for text in texts):
            raise Unmapped("a value of the matrix is empty, or has more than one line or more than 100 characters")
        if any("$" in text for text in texts):
            raise Unmapped("a value of the matrix is made of variables")
        names = {name: name_of(name) for entry in lists for name in entry}
        count = 0
        cells: list[dict[str, str]] = []
        for entry in lists:
            size = 1
            for values in entry.values():
                size *= len(values)
            count += size
            if count > _MAX_CELLS:
                raise Unmapped(f"the matrix has more than {_MAX_CELLS} jobs")
            cells += [
                dict(zip((names[name] for name in entry), cell, strict=True)) for cell in product(*entry.values())
            ]
        if len(lists) == 1 and len(names) <= 10:
            self.draft.matrix = MatrixDraft(axes={names[name]: values for name, values in lists[0].items()})
        else:
            self.draft.matrix = MatrixDraft(cells=cells)
        for name, axis in names.items():
            self._variables.templates[name] = piece(f"matrix.{axis}")
            self._variables.values.pop(name, None)
            self.draft.env[name] = piece(f"matrix.{axis}")

    def _places(self) -> None:
        for text in self.section.texts("tags"):
            label = self._expanded(text, "tags")
            if label and "${{" not in label:
                label = label_of(label)
            if label and len(self.draft.labels) < MAX_LABELS:
                self.draft.labels.append(label)
        node = self.section.take("image")
        image = scalar_text(node)
        if isinstance(node, Mapping):
            options = Section(node, self.section.path("image"), self._remarks)
            image = options.text("name")
            options.leave({
                "entrypoint": "steps run with sh in the container, whatever its entrypoint",
                "docker": "containers get no options from a file",
                "pull_policy": "agents pull an image that they do not have",
            })  # fmt: skip
            options.close()
        if image:
            self.draft.container = self._expanded(image, "image")
        for entry in entries_of(self.section.take("services")):
            name = scalar_text(entry) or scalar_text(members_of(entry).get("name")) or "?"
            rest = [f"{key}: {scalar_text(value) or '…'}" for key, value in members_of(entry).items() if key != "name"]
            details = f" ({quoted('; '.join(rest), 200)})" if rest else ""
            self.section.note(
                "services",
                f"runs no service here; start {quoted(name)} in a step, or on the agent's machine{details}",
                entry,
            )

    def _named_needs(self) -> None:
        node = self.section.take("needs")
        if node is not None:
            self.needs = []
            for entry in entries_of(node):
                self._need(entry)
        if "dependencies" in self.section:
            self.dependencies = self.section.texts("dependencies")

    def _need(self, entry: Value) -> None:
        options = Section(entry, self.section.path("needs"), self._remarks) if isinstance(entry, Mapping) else None
        name = options.text("job") if options else scalar_text(entry)
        if options and (name is None or {"project", "pipeline"} & members_of(entry).keys()):
            self.section.note("needs", "needs of other pipelines have no counterpart", entry)
            return
        need: dict[str, str | int] = {"job": name or "", "line": entry.line}
        if options:
            need["artifacts"] = truth(options.take("artifacts")) is not False
            need["optional"] = truth(options.take("optional")) is True
            options.leave({"parallel": "a need means all jobs of a matrix here"})
            options.close()
        if self.needs is not None:
            self.needs.append(need)

    def _verdict(self) -> Verdict:
        section = self.section
        known = {name for name in self._variables.values if "$" not in self._variables.values[name]} | self._by_default
        known |= {*self.draft.env}
        rules = Rules(known, lambda name: self._ask(name, section.line))
        when = section.text("when") or "on_success"
        may_fail_node = section.take("allow_failure")
        may_fail = truth(may_fail_node)
        if may_fail is None and may_fail_node is not None:
            section.note(
                "allow_failure",
                "exit codes that may fail have no counterpart; any failure fails the run",
                may_fail_node,
            )
        try:
            verdict = self._rules(rules, when)
        except Unmapped as problem:
            for name in ("rules", "only", "except"):
                section.take(name)
            verdict = Verdict()
            self._stop("rules" if "rules" in members_of(section.node) else "only", str(problem))
        for note in rules.notes:
            section.note("rules", note)
        if may_fail is None:
            has_rules = "rules" in members_of(section.node)
            may_fail = verdict.may_fail if verdict.may_fail is not None else verdict.manual and not has_rules
        self.draft.allow_failure = may_fail
        for name in known & _env_names(verdict.outcome):
            if name not in self._by_default:
                self.draft.env.setdefault(name, self._variables.values.get(name, ""))
        return verdict

    def _rules(self, rules: Rules, when: str) -> Verdict:
        section = self.section
        node = section.take("rules")
        if node is not None:
            return rules.rules(_flat(node), when, section)
        verdict = Verdict(when != "never", manual=when == "manual", whatever=when in ("always", "on_failure"))
        if verdict.whatever:
            verdict.outcome = Condition("always()" if when == "always" else "failure()")
        if when == "delayed":
            section.note("when", "nothing is delayed here; the job starts at once")
        for name in ("only", "except"):
            part = section.take(name)
            if part is not None:
                found = rules.refs(part, name, section)
                found = found if name == "only" else negated(found)
                verdict.outcome = both(verdict.outcome, found)
        return verdict

    def _artifacts(self) -> None:
        artifacts = self.section.section("artifacts")
        for path in artifacts.texts("paths"):
            self.draft.artifacts += self._path(path, "artifacts")
        expires = artifacts.text("expire_in")
        seconds = seconds_read(expires) if expires else None
        if seconds is not None and expires:
            self.draft.expire_in = f"{max(1, min(seconds, 365 * 86400) // 3600)}h"
        elif expires and expires != "never":
            artifacts.note("expire_in", f"{quoted(expires)!r} is no time")
        if artifacts.text("when") == "on_failure":
            artifacts.note("when", "artifacts are not kept only after failures here")
        self._reports(artifacts.section("reports"))
        artifacts.leave({
            "exclude": "paths cannot be left out here; write narrower paths",
            "untracked": "write the paths of the files",
            "expose_as": "all artifacts are listed on the job's page",
        })  # fmt: skip
        for name in ("name", "public", "access"):
            artifacts.take(name)
        artifacts.close()

    def _reports(self, reports: Section) -> None:
        junit = [path for text in reports.texts("junit") for path in self._path(text, "artifacts")]
        if junit:
            self.draft.reports["junit"] = junit
        coverage = members_of(reports.take("coverage_report"))
        path = scalar_text(coverage.get("path"))
        if path and scalar_text(coverage.get("coverage_format")) == "cobertura":
            if found := self._path(path, "artifacts"):
                self.draft.reports["coverage"] = found[0]
        elif coverage:
            reports.note("coverage_report", "only Cobertura files are read here")
        reports.leave({"dotenv": "write NAME=value lines to $HYBRID_CI_OUTPUT, and name them in `outputs`"})
        reports.close()

    def _path(self, text: str, name: str) -> list[str]:
        inside = text.removeprefix("$CI_PROJECT_DIR/").removeprefix("${CI_PROJECT_DIR}/").removeprefix("./")
        path = self._expanded(inside, name)
        node = members_of(self.section.node).get(name)
        if path is None:
            return []
        if path.startswith(("/", "~")) or ".." in path.split("/") or "\\" in path or not path.isprintable() or not path:
            self.section.note(name, f"{quoted(text)!r} is no path in the workspace", node)
            return []
        return [path]

    def _caches(self) -> None:
        node = self.section.take("cache")
        for entry in entries_of(node):
            cache = Section(entry, self.section.path("cache"), self._remarks)
            paths = [path for text in cache.texts("paths") for path in self._path(text, "cache")]
            key = self._cache_key(cache)
            fallback = [self._expanded(text, "cache") for text in cache.texts("fallback_keys")]
            for name in ("policy", "when", "unprotect"):
                cache.take(name)
            cache.leave({"untracked": "write the paths of the files"})
            cache.close()
            if paths and key and len(self.draft.caches) < 10:
                made: dict[str, object] = {"key": key, "paths": paths}
                if kept := [text for text in fallback if text]:
                    made["restore_keys"] = kept[:10]
                self.draft.caches.append(made)

    def _cache_key(self, cache: Section) -> str | None:
        node = cache.take("key")
        if not isinstance(node, Mapping):
            return self._expanded(
                (scalar_text(node) or "default").replace("CI_COMMIT_REF_SLUG", "CI_COMMIT_REF_NAME"), "cache"
            )
        key = Section(node, cache.path("key"), self._remarks)
        files = [text for text in key.texts("files") if text.isprintable()]
        prefix = key.text("prefix")
        key.close()
        if not files:
            return None
        hashed = piece(f"hashFiles({', '.join(text_literal(file) for file in files)})")
        start = self._expanded(prefix.replace("CI_COMMIT_REF_SLUG", "CI_COMMIT_REF_NAME"), "cache") if prefix else ""
        return f"{start}-{hashed}" if start else hashed

    def _limits(self) -> None:
        timeout = self.section.text("timeout")
        seconds = seconds_read(timeout) if timeout else None
        if seconds:
            self.draft.timeout = duration_of(seconds)
        elif timeout:
            self.section.note("timeout", f"{quoted(timeout)!r} is no time")
        group = self.section.text("resource_group")
        if group and (name := self._expanded(group, "resource_group")):
            self.draft.concurrency = {"group": name}
        node = self.section.take("retry")
        if node is not None:
            self._retry(node)

    def _retry(self, node: Value) -> None:
        members = members_of(node)
        text = scalar_text(node) or scalar_text(members.get("max")) or ""
        if not text.isdecimal():
            self.section.note("retry", "must be a number", node)
            return
        reasons = {scalar_text(entry) or "" for entry in entries_of(members.get("when"))}
        codes = [
            code for entry in entries_of(members.get("exit_codes")) if (code := scalar_text(entry)) and code.isdecimal()
        ]
        on = ["lost", *(str(int(code)) for code in codes if 0 < int(code[:4]) < 256)]
        if not codes and not (reasons and reasons <= _LOST) and text != "0":
            on.append("1")
            self.section.note("retry", "jobs run again only after the exit codes in `on`; 1 was taken", node)
        self.draft.retries = {"max": min(int(text[:2]), 10), "on": on}

    def _environment(self) -> None:
        node = self.section.take("environment")
        if node is None:
            return
        name = scalar_text(node)
        if isinstance(node, Mapping):
            options = Section(node, self.section.path("environment"), self._remarks)
            name = options.text("name")
            options.leave(dict.fromkeys(
                ("url", "on_stop", "action", "auto_stop_in", "deployment_tier", "kubernetes"),
                "has no counterpart",
            ))  # fmt: skip
            options.close()
        text = self._expanded((name or "").replace("CI_COMMIT_REF_SLUG", "CI_COMMIT_REF_NAME"), "environment")
        if text and (re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,54}", text) or ("${{" in text and "/" not in text)):
            self.draft.environment = text
        elif text:
            made = re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"/?\$\{\{.*?\}\}", "", text)).strip("-._")[:55]
            self.section.note(
                "environment", f"{quoted(text)!r} has parts that names cannot have; it became {made!r}", node
            )
            self.draft.environment = made or None

    def _script(self, is_incomplete: bool) -> None:
        section = self.section
        trigger = section.take("trigger")
        before, script, after = (section.texts(name) for name in ("before_script", "script", "after_script"))
        if trigger is not None:
            self._stop("trigger", "starts another pipeline; send POST /runs for it, or copy its jobs")
        elif not script and not is_incomplete:
            self._stop("script", "the job has no script")
        if not script:
            return
        if POWERSHELL.search("\n".join([*before, *script])):
            self._stop("script", "the script is for PowerShell; steps run with sh", "\n".join([*before, *script]))
            return
        run = "\n".join([*before, *script]).rstrip() + "\n"
        if after:
            run = with_finish(run, "\n".join(after))
        step = StepDraft(run=run, name="script")
        missing = self._variables.give(self.draft, step, by_default=self._by_default)
        for name in missing:
            self.section.note("script", f"${name} is not set here, so the script stops; give it a value in `env`",
                              members_of(section.node).get("script"))  # fmt: skip
        for name in self._variables.secrets(step):
            self.draft.secrets.append(name)
            self.section.note("script", f"${name} looks like a secret; give the pipeline one of that name",
                              members_of(section.node).get("script"))  # fmt: skip
        step.by_hand = bool(missing)
        step.run = with_shell(step.run, None)
        self.draft.steps.append(step)


def _flat(node: Value) -> list[Value]:
    """Rules, with lists within the list made flat."""
    found: list[Value] = []
    for entry in entries_of(node):
        if isinstance(entry, Sequence):
            found += _flat(entry)
        elif not (isinstance(entry, Scalar) and entry.is_null):
            found.append(entry)
    return found


def _env_names(outcome: Condition | bool) -> set[str]:
    return set(re.findall(r"\benv\.([A-Za-z0-9_]+)", outcome.text)) if isinstance(outcome, Condition) else set()
