"""When jobs of GitLab CI run: `rules`, `only` and `except`, and `when`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from apps.pipelines.importing.drafts import name_of
from apps.pipelines.importing.expressions import (
    Call,
    Condition,
    Literal,
    Name,
    Operation,
    Outcome,
    Pattern,
    Tree,
    both,
    either,
    equals,
    expression_read,
    matches,
    negated,
    text_literal,
    without_braces,
)
from apps.pipelines.importing.foreign import Mapping, Value, members_of, truth
from apps.pipelines.importing.remarks import Unmapped, quoted
from apps.pipelines.importing.sections import Section
from apps.pipelines.importing.values import Vocabulary
from apps.pipelines.importing.variables import looks_secret

_FACTS = {
    "$CI_COMMIT_BRANCH": "branch",
    "$CI_COMMIT_TAG": "tag",
    "$CI_COMMIT_SHA": "commit",
    "$CI_DEFAULT_BRANCH": "default_branch",
    "$CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "branch",
    "$CI_COMMIT_REF_NAME": "",
    "$CI_COMMIT_REF_SLUG": "",
}
_REFS = ("$CI_COMMIT_REF_NAME", "$CI_COMMIT_REF_SLUG")
_SOURCES = {
    "push": ("push", "tag"),
    "merge_request_event": ("pull_request",),
    "external_pull_request_event": ("pull_request",),
    "schedule": ("schedule",),
    "web": ("page",),
    "webide": ("page",),
    "chat": ("page",),
    "api": ("api",),
    "trigger": ("api",),
    "pipeline": ("api",),
}
_PROJECT = ("$CI_PROJECT_ID", "$CI_PROJECT_PATH", "$CI_PROJECT_NAMESPACE", "$CI_PROJECT_NAME", "$CI_SERVER_HOST",
            "$CI_PROJECT_ROOT_NAMESPACE", "$CI_PROJECT_URL", "$GITLAB_CI", "$CI", "$CI_SERVER_URL")  # fmt: skip
_PULL_REQUEST = ("$CI_MERGE_REQUEST_ID", "$CI_MERGE_REQUEST_IID", "$CI_EXTERNAL_PULL_REQUEST_IID")
_KEYWORDS = {
    "branches": Condition("branch != ''"),
    "tags": Condition("tag != ''"),
    "merge_requests": equals("event", "pull_request"),
    "external_pull_requests": equals("event", "pull_request"),
    "pushes": either(equals("event", "push"), equals("event", "tag")),
    "schedules": equals("event", "schedule"),
    "web": equals("event", "page"),
    "api": equals("event", "api"),
    "triggers": equals("event", "api"),
    "pipelines": equals("event", "api"),
}


@dataclass
class Verdict:
    """When a job runs. `manual` means that a person asks for it."""

    outcome: Outcome = True
    manual: bool = False
    may_fail: bool | None = None
    whatever: bool = False


@dataclass
class Rules:
    """Reads the rules of one job.

    `known` are the variables that conditions may name as `env.NAME`. Others that the file does not set become
    parameters, through `ask`.
    """

    known: set[str]
    ask: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._secrets: set[str] = set()
        self._words = Vocabulary(dict(_FACTS), self._compare, self._alone, notes=self.notes)

    def condition(self, text: str) -> Outcome:
        """An `if` of a rule. Raises Unmapped."""
        tree = expression_read(text)
        self._names(tree)
        return self._words.condition(_refs_apart(self._given(tree)))

    def _given(self, tree: Tree) -> Tree:
        """What a pattern says about the project is true, since a pipeline has one repository."""
        if not isinstance(tree, Operation):
            return tree
        named = next((part.text for part in tree.operands if isinstance(part, Name) and part.text in _PROJECT), None)
        is_text = any(isinstance(part, Literal) for part in tree.operands)
        if named is not None and tree.operator in ("=~", "!~", "==", "!=") and not is_text:
            self.notes.append(f"{named} was taken as one that fits, since a pipeline has one repository")
            return Literal(tree.operator in ("=~", "=="))
        return Operation(tree.operator, tuple(self._given(part) for part in tree.operands))

    def _names(self, tree: Tree) -> None:
        """Give each variable that is neither GitLab's nor the file's a meaning."""
        if isinstance(tree, Operation | Call):
            for part in tree.operands if isinstance(tree, Operation) else tree.arguments:
                self._names(part)
        elif isinstance(tree, Name) and tree.text.startswith("$"):
            name = tree.text[1:]
            if name in self.known:
                self._words.facts[tree.text] = f"env.{name}"
            elif looks_secret(name):
                self._secrets.add(tree.text)
            elif not name.startswith(("CI_", "GITLAB_")) and name != "CI" and tree.text not in _FACTS:
                self.ask(name)
                self._words.facts[tree.text] = f"parameters.{name_of(name)}"

    def _compare(self, name: str, text: str) -> Outcome | None:
        if name == "$CI_PIPELINE_SOURCE":
            if text not in _SOURCES:
                self.notes.append(f"no run here is started by {quoted(text)!r}")
                return False
            return either(*(equals("event", event) for event in _SOURCES[text]))
        if name in _PROJECT:
            self.notes.append(f"{name} was taken as {text!r}, since a pipeline has one repository")
            return True
        if name in self._secrets and not text:
            return not self._alone(name)
        if name in _PULL_REQUEST and not text:
            return negated(equals("event", "pull_request"))
        if name == "$CI_COMMIT_REF_PROTECTED":
            raise Unmapped("protected branches are not known here; name the branches")
        return None

    def _alone(self, name: str) -> Outcome | None:
        if name in _PULL_REQUEST:
            return equals("event", "pull_request")
        if name in self._secrets:
            self.notes.append(f"whether the secret {name} is there is not known here; it was taken as given")
            return True
        if name in _REFS or name in _PROJECT:
            return True
        if name == "$CI_OPEN_MERGE_REQUESTS":
            self.notes.append(
                "whether a branch has an open merge request is not known here; it was taken as having none"
            )
            return False
        return None

    def rules(self, nodes: list[Value], when: str, section: Section) -> Verdict:
        """The first rule that fits decides. Raises Unmapped."""
        verdict = Verdict(False)
        read = [self._rule(node, when, section) for node in nodes]
        positive = [rule for rule in read if rule[1] != "never"]
        for condition, kind, _ in reversed(read):
            verdict.outcome = self._before(condition, kind, verdict.outcome)
        verdict.manual = bool(positive) and all(kind == "manual" for _, kind, _ in positive)
        if not verdict.manual and any(kind == "manual" for _, kind, _ in positive):
            section.note("rules", "some rules ask a person to start the job and others do not; it starts by itself")
        verdict.whatever = any(kind in ("always", "on_failure") for _, kind, _ in positive)
        allowed = {may_fail for _, _, may_fail in positive}
        if len(allowed) == 1:
            verdict.may_fail = allowed.pop()
        elif len(allowed) > 1:
            section.note("rules", "some rules allow the job to fail and others do not; write allow_failure for all")
        return verdict

    @staticmethod
    def _before(condition: Outcome, kind: str, others: Outcome) -> Outcome:
        if kind == "never":
            return both(negated(condition), others)
        if kind in ("always", "on_failure"):
            condition = both(condition, Condition("always()" if kind == "always" else "failure()"))
        return either(condition, others)

    def _rule(self, node: Value, when: str, section: Section) -> tuple[Outcome, str, bool | None]:
        rule = Section(node, section.path("rules"), section.remarks)
        if not isinstance(node, Mapping):
            raise Unmapped("a rule is no mapping")
        parts: list[Outcome] = []
        if text := rule.text("if"):
            parts.append(self.condition(text))
        if (changes := rule.take("changes")) is not None:
            parts.append(changed(changes, rule))
        if rule.take("exists") is not None:
            raise Unmapped("`exists` has no counterpart; test for the file in the script")
        kind = rule.text("when") or when
        may_fail = truth(rule.take("allow_failure"))
        rule.leave({
            "variables": "a rule sets no variables here; set them in `env` of a job of its own",
            "needs": "a rule changes no needs here",
            "start_in": "nothing is delayed here; the job starts at once",
            "interruptible": "has no counterpart",
        })  # fmt: skip
        rule.close()
        return both(*parts), kind, may_fail

    def refs(self, node: Value, name: str, section: Section) -> Outcome:
        """What `only` or `except` names. Raises Unmapped."""
        if not isinstance(node, Mapping):
            return either(*(self._ref(text) for text in section.flat(node, name)))
        options = Section(node, section.path(name), section.remarks)
        parts: list[Outcome] = []
        refs = options.texts("refs")
        if refs:
            parts.append(either(*(self._ref(text) for text in refs)))
        if variables := options.texts("variables"):
            parts.append(either(*(self.condition(text) for text in variables)))
        if (changes := options.take("changes")) is not None:
            parts.append(changed(changes, options))
        if options.take("kubernetes") is not None:
            raise Unmapped("whether a cluster is connected is not known here")
        options.close()
        # `only` asks for all of them, `except` for one.
        return both(*parts) if name == "only" else either(*parts)

    def _ref(self, text: str) -> Outcome:
        ref, at, _ = text.partition("@")
        if at:
            self.notes.append(f"{quoted(text)!r} was taken as {ref!r}, since a pipeline has one repository")
        if ref in _KEYWORDS:
            return _KEYWORDS[ref]
        if ref.startswith("/"):
            source, _, flags = ref[1:].rpartition("/")
            return either(*(matches(fact, Pattern(source, flags), self.notes) for fact in ("branch", "tag")))
        if ref in ("external", "chat"):
            raise Unmapped(f"no run here is started by {ref!r}")
        return either(equals("branch", ref), equals("tag", ref))


def changed(node: Value, section: Section) -> Outcome:
    """Whether one of the paths has changed. Raises Unmapped."""
    members = members_of(node)
    paths = section.flat(members.get("paths"), "changes") if members else section.flat(node, "changes")
    if "compare_to" in members:
        section.note("changes", "changes are always those since the run before; compare_to was left out", node)
    if any("$" in path for path in paths):
        raise Unmapped("paths with variables have no counterpart")
    paths = [whole for path in paths for whole in without_braces(path)]
    return Condition(f"changed({', '.join(text_literal(path) for path in paths)})") if paths else True


def _refs_apart(tree: Tree) -> Tree:
    """A name that is a branch or a tag as a choice of both."""
    if not isinstance(tree, Operation):
        return tree
    names = [part for part in tree.operands if isinstance(part, Name) and part.text in _REFS]
    if tree.operator in ("==", "!=", "=~", "!~") and names:
        word = {"!=": "==", "!~": "=~"}.get(tree.operator, tree.operator)
        choices = [
            Operation(word, tuple(Name(fact) if part in names else part for part in tree.operands))
            for fact in ("$CI_COMMIT_BRANCH", "$CI_COMMIT_TAG")
        ]
        choice: Tree = Operation("||", tuple(choices))
        return Operation("!", (choice,)) if word != tree.operator else choice
    return Operation(tree.operator, tuple(_refs_apart(part) for part in tree.operands))
