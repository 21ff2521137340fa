"""Variables of GitLab CI and Buildkite, which files name as $NAME in any text, and not only in scripts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from apps.pipelines.definitions import SECRET_NAME
from apps.pipelines.importing.drafts import JobDraft, StepDraft
from apps.pipelines.importing.remarks import Unmapped
from apps.pipelines.importing.scripts import variable_line
from apps.pipelines.importing.values import literal_piece

_REFERENCE = re.compile(r"\$\$|\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))|\$\{[^}]*\}?")
# In scripts: with a default for one that is not set, or without.
_USE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)([^}]?)|([A-Za-z_][A-Za-z0-9_]*))")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_SECRET = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASS|PWD|KEY|CREDENTIALS?|APIKEY)(?:_|$|[A-Z]*$)")
_MAX_DEPTH = 10
_MAX_LENGTH = 20_000


@dataclass
class Variables:
    """What one job knows.

    `templates` are texts of ours by the product's names of variables; `commands` are shell texts for those that only
    the agent knows; `values` are those of the file, as it has them; `own` begins all names that the product sets.
    """

    own: tuple[str, ...]
    templates: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    # Values that are taken as they are written.
    raw: set[str] = field(default_factory=set)

    def expand(self, text: str) -> str:
        """`text` with `${{ … }}` for its variables. Raises Unmapped for one that is not known before the job runs."""
        return self._expand(text, 0, {})

    def _expand(self, text: str, depth: int, done: dict[str, str]) -> str:
        """`done` has the variables that were expanded already: they may name each other again and again."""
        if depth > _MAX_DEPTH or len(text) > _MAX_LENGTH:
            raise Unmapped("variables name each other, too deeply")
        parts, at = [], 0
        for match in _REFERENCE.finditer(text):
            parts.append(literal_piece(text[at : match.start()]))
            parts.append("$" if match[0] == "$$" else self._expanded(match, depth, done))
            at = match.end()
        parts.append(literal_piece(text[at:]))
        return _limited("".join(parts))

    def _expanded(self, match: re.Match[str], depth: int, done: dict[str, str]) -> str:
        name = match[1] or match[2]
        if name in self.values and name not in self.templates:
            if name not in done:
                value = self.values[name]
                done[name] = literal_piece(value) if name in self.raw else self._expand(value, depth + 1, done)
            return done[name]
        if name in self.templates:
            return self.templates[name]
        raise Unmapped(f"{match[0][:60]} is known only while the job runs, and cannot be in this text")

    def give(self, job: JobDraft, step: StepDraft, *, by_default: set[str]) -> list[str]:
        """Give the job and the script of its step the variables. Returns names of variables that nothing sets here.

        `by_default` are those that all jobs have already.
        """
        preludes: list[str] = []
        for name in self.values:
            if name not in by_default and _ENV_NAME.fullmatch(name):
                self._give_value(name, job, preludes)
        used = self._used("\n".join([step.run, *preludes]))
        for name in sorted(used & self.templates.keys() - self.values.keys()):
            job.env.setdefault(name, self.templates[name])
        first = [f'export {name}="{self.commands[name]}"' for name in sorted(used & self.commands.keys())]
        missing = sorted(
            name
            for name in self._required("\n".join([step.run, *preludes]))
            if name.startswith(self.own) and not self._is_known(name)
        )
        stops = [variable_line(name) for name in missing]
        lines = [*first, *stops, *preludes]
        if lines:
            step.run = "\n".join([*lines, step.run])
        return missing

    def _give_value(self, name: str, job: JobDraft, preludes: list[str]) -> None:
        value = self.values[name]
        if name in self.raw:
            job.env[name] = literal_piece(value)
            return
        try:
            job.env[name] = self.expand(value)
        except Unmapped:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$(", "\\$(")
            # A variable that names itself keeps the value that the agent gives.
            preludes.append(f'export {name}="{escaped}"')

    def secrets(self, step: StepDraft) -> list[str]:
        """Variables of a script that neither the file nor the script sets, with names as secrets have them."""
        return sorted(
            name
            for name in self._required(step.run)
            if looks_secret(name) and SECRET_NAME.fullmatch(name)
            if not self._is_known(name) and not name.startswith(self.own)
        )[:50]

    def _is_known(self, name: str) -> bool:
        return name in self.templates or name in self.commands or name in self.values

    @staticmethod
    def _used(script: str) -> set[str]:
        return {match[1] or match[3] for match in _USE.finditer(script)}

    @staticmethod
    def _required(script: str) -> set[str]:
        """Those without a default of their own, which the script does not set itself."""
        found = {
            match[1] or match[3] for match in _USE.finditer(script) if (match[2] or "}") not in (":", "-", "+", "=")
        }
        return {
            name for name in found if not re.search(rf"(?<![\w$]){name}=|\b(?:for|read)\s+(?:-\w+\s+)*{name}\b", script)
        }


def looks_secret(name: str) -> bool:
    """Whether a variable has a name that secrets usually have."""
    return bool(_SECRET.search(name.upper()))


def _limited(text: str) -> str:
    if len(text) > _MAX_LENGTH:
        raise Unmapped("a text becomes too long with its variables filled in")
    return text
