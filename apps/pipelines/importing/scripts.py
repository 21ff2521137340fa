"""Scripts of other products as steps: their shells, their variables, and steps that stop until a person acts."""

from __future__ import annotations

import re
import shlex

from apps.pipelines.importing.drafts import StepDraft, one_line

# What dash, the usual /bin/sh of agents, does not understand.
_BASH_ONLY = re.compile(
    r"\[\[|\bpipefail\b|^\s*(?:source|shopt|declare|mapfile|pushd|popd)\s|<<<|<\(|>\(|&>|\bfunction\s+\w+|\w\+?=\(|"
    r"\$\{\w+(?:\[|,,|\^\^|//|:\s*-?\d)|\{\d+\.\.\d+\}|\$'|\|&|\[\s[^\]]*\s==\s",
    re.MULTILINE,
)
# A part that scripts for PowerShell nearly always have, and others never.
POWERSHELL = re.compile(r"\$env:[A-Za-z]|\$LASTEXITCODE|^\s*[A-Z][a-z]+-[A-Z][A-Za-z]+\b", re.MULTILINE)
_END = "END_OF_SCRIPT"


def with_shell(script: str, shell: str | None) -> str:
    """A script for `sh` that runs `script` with another interpreter, with its own standard input.

    Without `shell`, a script that only bash understands is run with bash.
    """
    interpreter = shell
    if shell is None and _BASH_ONLY.search(script):
        interpreter = "bash -e"
    if interpreter is None:
        return script
    end = _END
    while end in script:
        end += "_"
    return f"exec {interpreter} /dev/fd/3 3<<'{end}'\n{script.rstrip()}\n{end}\n"


def with_finish(script: str, finish: str) -> str:
    """`script`, and `finish` when it ends, whatever its result; what fails in `finish` changes no result."""
    body = finish.rstrip()
    return (
        f'workspace="$PWD"\nafter_script() (\nset +e\ncd "$workspace"\n{body}\n)\n'
        f"trap 'after_script || true' EXIT\n{script}"
    )


def by_hand_step(name: str | None, reason: str, original: str = "") -> StepDraft:
    """A step that fails and says why, so that no run is green without what the foreign step did."""
    lines = [f"echo {shlex.quote(one_line_of(f'by hand: {reason}'))} >&2", "exit 1"]
    # Nothing in a script may look as if it were filled in.
    shown = original.rstrip().replace("${{", "$ {{")
    if shown:
        lines += ["# The imported file had:", *(f"# {line}".rstrip() for line in shown.split("\n"))]
    lines[0] = lines[0].replace("${{", "$ {{")
    return StepDraft(run="\n".join(lines) + "\n", name=one_line(name or "by hand"), by_hand=True)


def variable_line(name: str) -> str:
    """A line of a script that stops it, and names the variable, unless something sets that."""
    return f': "${{{name}:?by hand: nothing sets this variable here}}"'


def variable_step(name: str) -> StepDraft:
    """A step that fails unless something sets a variable of the whole job."""
    return StepDraft(run=variable_line(name), name=f"{name[:60]} must be set", by_hand=True)


def one_line_of(text: str) -> str:
    """`text` as one printable line."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
