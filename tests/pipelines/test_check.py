"""``agent.pyz check`` and ``manage.py pipeline_check``: pipeline files are checked without any server."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from agent.bundle import agent_bundle
from agent.pipeline.check import check_files
from agent.pipeline.constants import MAX_BYTES

VALID = "jobs:\n  test:\n    matrix: {axes: {x: [a, b]}}\n    steps: [{run: make}]\n  lint: {steps: [{run: make}]}\n"
INVALID = "jobs:\n  test:\n    needs: [lnit]\n    steps: [{run: make}]\n  lint: {steps: [{run: make}], timeout: soon}\n"
SAID = """\
{name}:3:13: error: jobs.test.needs[0]: must be a job of this file, not 'lnit'; did you mean 'lint'?
     3 |     needs: [lnit]
       |             ^
{name}:5:32: error: jobs.lint.timeout: must be a time from 1 second to 24 hours, as in 90, 90s, 10m or 1h30m, not 'soon'
     5 |   lint: {{steps: [{{run: make}}], timeout: soon}}
       |                                ^
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in (("valid.yml", VALID), ("invalid.yml", INVALID), ("steps.yml", "steps: [{run: make}]")):
        (tmp_path / name).write_text(text)
    return tmp_path


def check(*names: str) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    code = check_files(names, out=out, errors=errors)
    return code, out.getvalue(), errors.getvalue()


def test_the_agent_checks_files_offline_with_compiler_style_messages(files: Path) -> None:
    bundle = files / "agent.pyz"
    bundle.write_bytes(agent_bundle())

    def run(*names: str, **others: str) -> "subprocess.CompletedProcess[str]":
        # Without the environment's packages: PyYAML comes from the file itself.
        command = [sys.executable, "-I", "-S", str(bundle), "check", *names]
        return subprocess.run(command, cwd=files, capture_output=True, text=True, check=False, **others)  # type: ignore[call-overload]

    done = run("valid.yml", "invalid.yml", "steps.yml")
    said = SAID.format(name="invalid.yml")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"valid.yml: valid, 3 jobs\n{said}steps.yml: valid, one job\n"
    assert run("valid.yml").returncode == 0
    assert run("-", input=INVALID).stdout == SAID.format(name="<stdin>")
    # Without a name, it is the file of the repository.
    (files / ".hybrid-ci.yml").write_text(VALID)
    assert run().stdout == ".hybrid-ci.yml: valid, 3 jobs\n"


def test_the_command_of_the_control_plane_says_the_same(files: Path) -> None:
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("pipeline_check", str(files / "valid.yml"), str(files / "invalid.yml"), stdout=out)
    assert ended.value.code == 1
    assert out.getvalue().endswith(SAID.format(name=files / "invalid.yml"))
    call_command("pipeline_check", str(files / "steps.yml"), stdout=out)


def test_a_file_that_cannot_be_read_is_an_error_and_the_others_are_checked(files: Path) -> None:
    (files / "binary.yml").write_bytes(b"\xff\xfe")
    code, out, errors = check(str(files / "none.yml"), str(files / "binary.yml"), str(files), str(files / "valid.yml"))
    assert code == 1
    assert out == f"{files}/valid.yml: valid, 3 jobs\n"
    assert errors.splitlines() == [
        f"{files}/none.yml: error: the file cannot be read: {os.strerror(2)}",
        f"{files}/binary.yml: error: the file cannot be read: it is not UTF-8 text",
        f"{files}: error: the file cannot be read: {os.strerror(21)}",
    ]


def test_a_file_that_is_too_long_is_refused_for_its_length_whatever_its_last_character(files: Path) -> None:
    for text in ("#" * (MAX_BYTES + 9), "#" + "é" * MAX_BYTES, "#" + "\N{GRINNING FACE}" * MAX_BYTES):
        (files / "long.yml").write_text(text)
        code, out, _ = check(str(files / "long.yml"))
        assert code == 1
        assert "must be at most 524,288 bytes long" in out


def test_a_terminal_without_the_characters_of_a_message_gets_it_too(files: Path) -> None:
    (files / "circle.yml").write_text("jobs: {a: {needs: b, steps: [{run: x}]}, b: {needs: a, steps: [{run: x}]}}")
    command = [sys.executable, "-m", "agent", "check", str(files / "circle.yml")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a \\u2192 b \\u2192 a" in done.stdout


def test_a_long_line_is_shown_around_the_mistake_without_control_characters(files: Path) -> None:
    (files / "long.yml").write_text(f"steps: [{{run: '{'x' * 300}', tiemout: 3, name: '\u200b'}}]")
    _, out, _ = check(str(files / "long.yml"))
    _, line, mark = out.splitlines()[:3]
    assert len(line) <= 110
    assert "\u200b" not in out
    assert line[mark.index("^") :].startswith("tiemout")
