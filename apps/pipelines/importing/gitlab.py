"""Files of GitLab CI."""

from __future__ import annotations

from dataclasses import dataclass

from apps.pipelines.importing.drafts import JobDraft, Names, PipelineDraft, name_of
from apps.pipelines.importing.expressions import Condition, Outcome, both, condition_text
from apps.pipelines.importing.foreign import Mapping, Value, document_of, entries_of, members_of, scalar_text
from apps.pipelines.importing.gitlab_includes import Includes, Read
from apps.pipelines.importing.gitlab_job import FACTS, JobReader
from apps.pipelines.importing.gitlab_rules import Verdict
from apps.pipelines.importing.gitlab_tree import Tree
from apps.pipelines.importing.ordering import after_all, go_on_without, take_from
from apps.pipelines.importing.remarks import ImportRefused, Remarks, quoted
from apps.pipelines.importing.sections import Section
from apps.pipelines.importing.values import literal_piece, piece
from apps.pipelines.importing.variables import Variables

_STAGES = ["build", "test", "deploy"]
_GLOBAL_KEYS = ("image", "services", "cache", "before_script", "after_script", "default")


def gitlab_convert(documents: list[Value], remarks: Remarks, read: Read) -> PipelineDraft:
    """The pipeline. `read` gives files that it includes. Raises ImportRefused."""
    if len(documents) == 2 and "spec" in members_of(documents[0]):
        remarks.add(documents[0].line, "spec", "inputs of a file have no counterpart; write parameters")
        documents = documents[1:]
    node = document_of(documents)
    if not isinstance(node, Mapping):
        raise ImportRefused("The file is no file of GitLab CI: it must be one mapping with jobs.")
    return _File(Includes(read, remarks).whole(node), remarks).convert()


@dataclass
class _Made:
    """A job with what decides about its place."""

    there: str
    draft: JobDraft
    verdict: Verdict
    stage: str
    # None: all jobs of earlier stages.
    needs: list[dict[str, str | int]] | None = None
    dependencies: list[str] | None = None
    condition: Outcome = True


class _File:
    def __init__(self, root: Mapping, remarks: Remarks) -> None:
        self._remarks = remarks
        self._root = Section(root, "", remarks)
        self._tree = Tree(root, remarks)
        self._draft = PipelineDraft()
        self._globals: dict[str, str] = {}
        self._raw: set[str] = set()
        self._drafts: list[JobDraft] = []

    def convert(self) -> PipelineDraft:
        root = self._root
        self._variables()
        stages = root.texts("stages") or root.texts("types") or [*_STAGES]
        self._workflow()
        jobs = self._tree.jobs()
        for name in (*_GLOBAL_KEYS, *jobs, *[name for name in members_of(root.node) if name.startswith(".")]):
            root.take(name)
        for name in members_of(root.node):
            if name in root and members_of(root.node)[name] is not None and name not in ("spec",):
                root.note(name, "is no job, so it was left out", root.take(name))
        if not jobs:
            raise ImportRefused("The file has no job of its own. What it includes has to be converted file by file.")
        names = Names()
        here = {there: names.new(there) for there in jobs}
        made = [self._job(there, node, here[there]) for there, node in jobs.items()]
        named = [stage for stage in dict.fromkeys(stages) if stage not in (".pre", ".post")]
        self._order(made, [".pre", *named, ".post"], here)
        self._draft.jobs = [job.draft for job in made]
        root.take("spec")
        root.close()
        return self._draft

    def _workflow(self) -> None:
        workflow = self._root.section("workflow")
        workflow.leave({
            "name": "runs have no names of their own",
            "rules": "which events start a run is decided in `on`; jobs decide in `if`",
            "auto_cancel": "write `concurrency` with cancel_in_progress",
        })  # fmt: skip
        workflow.close()

    def _variables(self) -> None:
        section = self._root.section("variables")
        for name, node in members_of(section.node).items():
            section.take(name)
            options = members_of(node)
            value = scalar_text(options.get("value")) if options else scalar_text(node)
            if scalar_text(options.get("expand")) == "false":
                self._raw.add(name)
            if "description" in options or "options" in options:
                self._parameter(name, value or "", options)
            self._globals[name] = value or ""
        section.close()
        for name, value in self._globals.items():
            if name in self._draft.parameters:
                self._draft.env[name] = piece(f"parameters.{name_of(name)}")
            elif "$" not in value or name in self._raw:
                self._draft.env[name] = literal_piece(value)

    def _parameter(self, name: str, value: str, options: dict[str, Value]) -> None:
        choices = [text for entry in entries_of(options.get("options")) if (text := scalar_text(entry))]
        parameter: dict[str, object] = {"type": "choice" if value in choices else "text"}
        if description := " ".join((scalar_text(options.get("description")) or "").split())[:200]:
            parameter["description"] = description
        if value:
            parameter["default"] = value
        if value in choices:
            parameter["options"] = choices
        self._draft.parameters[name_of(name)] = parameter

    def _ask(self, name: str, line: int) -> None:
        """Make a variable that only conditions know a parameter."""
        if name_of(name) not in self._draft.parameters:
            self._draft.parameters[name_of(name)] = {"type": "text"}
            self._draft.env.setdefault(name, piece(f"parameters.{name_of(name)}"))
            self._remarks.add(
                line, f"variables.{quoted(name, 40)}", "is not in this file; it became a parameter of runs"
            )

    def _job(self, there: str, node: Mapping, name: str) -> _Made:
        values = {key: value for key, value in self._globals.items() if key not in self._draft.parameters}
        templates = {**FACTS, "CI_JOB_NAME": literal_piece(there)}
        templates |= {
            key: piece(f"parameters.{name_of(key)}") for key in self._globals if key in self._draft.parameters
        }
        variables = Variables(("CI_", "GITLAB_"), templates, dict(_COMMANDS), values, set(self._raw))
        asked = {key for key in self._draft.env if name_of(key) in self._draft.parameters}
        reader = JobReader(there, node, name, variables, self._remarks, set(self._draft.env) - asked, self._ask)
        missing = self._tree.missing.get(there, [])
        verdict = reader.convert(missing)
        made = _Made(there, reader.draft, verdict, reader.stage, reader.needs, reader.dependencies)
        made.condition = verdict.outcome
        if verdict.manual:
            flag = name_of(f"run_{name}")
            self._draft.parameters[flag] = {"type": "flag", "description": f"run the job {name}"}
            made.condition = both(Condition(f"parameters.{flag}"), verdict.outcome)
            reader.section.note(
                "when", f"nothing is started by hand within a run; start a run with the parameter {flag}", node
            )
        reader.draft.condition = condition_text(made.condition)
        reader.close()
        return made

    def _order(self, made: list[_Made], stages: list[str], here: dict[str, str]) -> None:
        by_stage = [[job for job in made if job.stage == stage] for stage in stages]
        listed = {id(job) for group in by_stage for job in group}
        for job in made:
            if id(job) not in listed:
                line = job.draft.name
                job.draft.comments.append(f"The stage {quoted(job.stage, 60)} of {line} is not in the list of stages.")
        by_stage.append([job for job in made if id(job) not in listed])
        self._drafts = [job.draft for job in made]
        optional = {job.draft.name for job in made if job.condition is not True}
        for job in made:
            self._named_needs(job, here)
        waiting_for = _waiting(made)
        earlier: list[list[JobDraft]] = []
        taking: list[str] = []
        for group in by_stage:
            for job in group:
                self._stage_needs(job, earlier, optional, waiting_for.get(job.draft.name, set()))
                self._take(job, taking, here)
            earlier = [*earlier, [job.draft for job in group]]
            taking += [job.draft.name for job in group if job.draft.artifacts]
        _cycles_refuse(made)

    def _stage_needs(self, job: _Made, earlier: list[list[JobDraft]], optional: set[str], waiting: set[str]) -> None:
        """All jobs of earlier stages, but those in `waiting`, which wait for this one by their own needs."""
        if job.needs is None:
            waited_for = [
                [other for other in group if not _is_optional_manual(other, optional) and other.name not in waiting]
                for group in earlier
            ]
            after_all(job.draft, waited_for, optional, whatever=job.verdict.whatever)
            job.condition = go_on_without(job.draft, optional, job.condition)

    def _named_needs(self, job: _Made, here: dict[str, str]) -> None:
        may_be_missing = set()
        for need in job.needs or []:
            name = here.get(str(need["job"]))
            if name is None or name == job.draft.name:
                if not need.get("optional"):
                    message = f"there is no job {quoted(str(need['job']))!r} in this file"
                    line = need["line"] if isinstance(need["line"], int) else 1
                    self._remarks.add(line, f"jobs.{quoted(job.there, 40)}.needs", message)
                continue
            job.draft.needs[name] = "any" if job.verdict.whatever else "success"
            if need.get("optional"):
                may_be_missing.add(name)
        job.condition = go_on_without(job.draft, may_be_missing, job.condition)

    def _take(self, job: _Made, earlier: list[str], here: dict[str, str]) -> None:
        """By default a job gets the artifacts of its needs, or of all jobs of earlier stages."""
        if job.dependencies is not None:
            wanted = [here[name] for name in job.dependencies if name in here]
        elif job.needs is not None:
            named = [here.get(str(need["job"]), "") for need in job.needs if need.get("artifacts", True)]
            by_name = set(job.draft.needs)
            wanted = [name for name in named if name in by_name]
        else:
            wanted = [*earlier]
        take_from(job.draft, wanted, self._drafts)


_COMMANDS = {
    "CI_PROJECT_DIR": "$PWD",
    "CI_JOB_ID": "$HYBRID_CI_JOB_ID",
    "CI_PIPELINE_ID": "$HYBRID_CI_JOB_ID",
    "CI_COMMIT_SHORT_SHA": '$(printf %.8s "$HYBRID_CI_COMMIT")',
    "CI_COMMIT_REF_SLUG": "$(printf %s \"${HYBRID_CI_GIT_REF##refs/*/}\" | tr 'A-Z' 'a-z' "
    "| tr -c 'a-z0-9' '-' | cut -c 1-63)",
}


def _waiting(made: list[_Made]) -> dict[str, set[str]]:
    """By job, the jobs that wait for it by needs that the file names."""
    followers: dict[str, list[str]] = {}
    for job in made:
        for name in job.draft.needs:
            followers.setdefault(name, []).append(job.draft.name)
    found: dict[str, set[str]] = {}
    for start in followers:
        seen: set[str] = set()
        left = [start]
        while left:
            for name in followers.get(left.pop(), []):
                if name not in seen:
                    seen.add(name)
                    left.append(name)
        found[start] = seen
    return found


def _is_optional_manual(job: JobDraft, optional: set[str]) -> bool:
    """A job that starts only on request holds up no stage, unless it must not fail."""
    return job.name in optional and job.allow_failure and (job.condition or "").startswith("parameters.run_")


def _cycles_refuse(made: list[_Made]) -> None:
    needs = {job.draft.name: [*job.draft.needs] for job in made}
    done: set[str] = set()
    while True:
        ready = [name for name, before in needs.items() if name not in done and all(need in done for need in before)]
        if not ready:
            break
        done.update(ready)
    if len(done) < len(needs):
        circle = sorted(needs.keys() - done)[:5]
        raise ImportRefused(f"The needs of jobs lead back to themselves, among {', '.join(circle)}.")
