"""``manage.py pipeline_import``."""

from pathlib import Path

import pytest

from apps.pipelines.parsing import pipeline_parse
from tests.commands import command

WHOLE = "jobs: {a: {runs-on: ubuntu-latest, steps: [{run: make}]}}\n"
WITH_REMARKS = "jobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{uses: someone/something@v1}]\n"


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    path = tmp_path / "ci.yml"
    path.write_text(WITH_REMARKS)
    return path


def test_a_file_that_is_converted_whole_goes_to_stdout_with_exit_code_0() -> None:
    done = command("pipeline_import", "--from", "github", "-", stdin=WHOLE)
    assert done.returncode == 0
    assert pipeline_parse(done.stdout).jobs["a"].steps[0].run == "make"
    assert done.stderr == "1 job converted, 0 remarks.\n"


def test_remarks_have_file_and_line_on_stderr_and_exit_code_3(workflow: Path) -> None:
    done = command("pipeline_import", "--from", "github", str(workflow))
    assert done.returncode == 3
    pipeline_parse(done.stdout)
    remark, summary = done.stderr.splitlines()
    assert remark.startswith(f"{workflow}:4: jobs.a.steps[0].uses: the action someone/something@v1 is not run here")
    assert summary == "1 job converted, 1 remark, 1 job stops until a part of it is written by hand."


def test_the_result_goes_to_a_new_file_and_never_over_one_that_is_there(workflow: Path) -> None:
    output = workflow.with_name(".hybrid-ci.yml")
    arguments = ("pipeline_import", "--from", "github", str(workflow), "--output", str(output))
    first, written = command(*arguments), output.read_text()
    output.write_text("edited")
    second = command(*arguments)
    assert (first.returncode, first.stdout) == (3, "")
    pipeline_parse(written)
    assert (second.returncode, output.read_text()) == (1, "edited")
    assert "exists already" in second.stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"jobs: 1", "no workflow of GitHub Actions"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x: " + b"y" * 600_000, "at most 524,288"),
        (("x: " + "é" * 300_000).encode(), "at most 524,288"),
    ],
)
def test_what_cannot_be_converted_has_exit_code_1_and_a_sentence(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "ci.yml"
    path.write_bytes(content)
    done = command("pipeline_import", "--from", "github", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{path}: " in done.stderr
    assert why in done.stderr


def test_a_file_that_is_not_there_or_cannot_be_written_has_exit_code_1(tmp_path: Path) -> None:
    missing = command("pipeline_import", "--from", "gitlab", str(tmp_path / "no.yml"))
    assert (missing.returncode, "No such file" in missing.stderr) == (1, True)
    output = str(tmp_path / "no" / "x.yml")
    unwritten = command("pipeline_import", "--from", "github", "-", "--output", output, stdin=WHOLE)
    assert (unwritten.returncode, "No such file" in unwritten.stderr) == (1, True)


def test_included_files_are_read_beside_the_file_and_never_outside_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    (folder / "ci").mkdir(parents=True)
    (tmp_path / "secret.yml").write_text("stolen: {script: x}")
    (folder / "ci" / "link.yml").symlink_to(tmp_path / "secret.yml")
    (folder / "ci" / "b.yml").write_text("b:\n  script: echo $CI_JOB_TOKEN")
    includes = ["ci/b.yml", "/ci/b.yml", "../secret.yml", "ci/link.yml", str(tmp_path / "secret.yml"), "ci", "ci/\\0"]
    (folder / "ci.yml").write_text("include: [" + ", ".join(f'"{path}"' for path in includes) + "]\na: {script: x}")
    done = command("pipeline_import", "--from", "gitlab", str(folder / "ci.yml"))
    assert [*pipeline_parse(done.stdout).jobs] == ["b", "a"]
    assert f"{folder / 'ci.yml'}: line 2 of ci/b.yml: jobs.b.script: $CI_JOB_TOKEN is not set here" in done.stderr
    assert done.stderr.count("was not read") == 5


def test_a_mark_at_the_beginning_of_the_file_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "ci.yml"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    assert command("pipeline_import", "--from", "github", str(path)).returncode == 0
