"""`agent.pyz exec` runs the jobs of a file in the current checkout, without any control plane."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.console import Console, ConsoleLog
from agent.exec_command import exec_main
from agent.local_plan import Ended, LocalPlan
from agent.pipeline.definition import Node
from agent.pipeline.expressions import Context
from tests.agent.conftest import ROOT, eventually
from tests.signals import ctrl_c_obeyed

GRAPH = """
parameters:
  who: {default: world}
jobs:
  build:
    env: {WHO: '${{ parameters.who }}'}
    outputs: [version]
    artifacts: {paths: dist}
    caches: [{key: "c-${{ hashFiles('*.lock') }}", paths: .cache}]
    steps:
      - run: cat .cache/file || true; mkdir -p .cache dist; echo cached > .cache/file
      - run: echo "hello $WHO" > dist/out; echo version=1.2 >> $HYBRID_CI_OUTPUT
  test:
    needs: [build]
    matrix: {axes: {py: ['3.11', '3.12']}}
    env: {VERSION: '${{ needs.build.outputs.version }}', PY: '${{ matrix.py }}'}
    artifacts: {from: build}
    steps:
      - run: echo "$VERSION on $PY says $(cat dist/out) at $HOME"
  never: {needs: [test], if: "branch == 'other'", steps: [{run: 'false'}]}
  deploy:
    needs: [{job: never, result: any}]
    secrets: [TOKEN]
    environment: production
    concurrency: {group: deploy}
    allow_failure: true
    steps: [{run: exit 3}]
"""

Exec = Callable[..., "subprocess.CompletedProcess[str]"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent", "exec", *arguments]


ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "SECRET": "not for steps"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", tmp_path], check=True)
    (tmp_path / ".hybrid-ci.yml").write_text(GRAPH)
    (tmp_path / "a.lock").write_text("1")
    return tmp_path


@pytest.fixture
def run(checkout: Path) -> Exec:
    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=checkout,
            env={**ENV, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_the_graph_runs_in_order_with_artifacts_caches_and_outputs(run: Exec, checkout: Path) -> None:
    done = run("--jobs", "2", "-p", "who=you")
    assert done.returncode == 0, done.stderr + done.stdout
    assert re.search(r"^test \(3.11\) │ 1.2 on 3.11 says hello you at .*/\.hybrid-ci/jobs/", done.stdout, re.MULTILINE)
    assert "test (3.12) │ 1.2 on 3.12 says hello you at " in done.stdout
    for line in (
        "── deploy: it runs without its secrets TOKEN; to pass on variables of yours with these names, add --secret ",
        "── deploy: nothing is approved here for the environment production",
        "── deploy: nothing is held here for the concurrency group deploy",
        "never        skipped: its condition is false: branch == 'other'",
        "deploy       failure: Step 'exit 3' ended with exit code 3.",
    ):
        assert line in done.stdout, done.stdout
    status = subprocess.run(["git", "status", "--short"], cwd=checkout, capture_output=True, text=True, check=True)
    assert ".hybrid-ci/" not in status.stdout

    (checkout / ".cache" / "file").unlink()
    (checkout / "dist" / "out").write_text("replaced")
    alone = run("--job", "test", "--set", "py=3.12")
    assert "1.2 on 3.12 says hello you at " in alone.stdout, "it has nothing of the run before"
    assert "3.11" not in alone.stdout
    cached = run("--job", "build")
    assert cached.stdout.count("cached\n") == 1
    assert ": restored, 1 file, 7 bytes, in " in cached.stdout


def test_a_job_has_artifacts_of_a_job_that_it_needs_through_others(run: Exec, checkout: Path) -> None:
    (checkout / ".hybrid-ci.yml").write_text("""
jobs:
  build: {artifacts: {paths: dist}, steps: [{run: 'mkdir dist && echo made > dist/out'}]}
  mid: {needs: build, steps: [{run: rm dist/out}]}
  use: {needs: mid, artifacts: {from: build}, steps: [{run: cat dist/out}]}
""")
    for arguments in ((), ("--job", "use")):
        done = run(*arguments)
        assert (done.returncode, "made\n" in done.stdout) == (0, True), done.stdout
        (checkout / "dist" / "out").unlink()


def test_the_exit_code_is_that_of_the_job(run: Exec) -> None:
    assert run("--job", "deploy").returncode == 0, "its failure is allowed"
    assert run("--job", "never").returncode == 1, "it runs whatever its condition says, and fails"


def test_a_file_in_the_form_of_steps_runs_too(run: Exec, checkout: Path) -> None:
    (checkout / "other.yml").write_text("steps: [{run: 'echo here in $PWD; exit 4', env: {A: b}}]\n")
    done = run("other.yml")
    assert done.returncode == 4
    assert f"\nhere in {checkout}\n" in done.stdout
    assert "│" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--job", "nope"], 2, "--job must be one of build, test, never, deploy, not 'nope'"),
        (["--set", "os=mac"], 2, "--set must name one of py, not 'os'"),
        (["--set", "py=2"], 2, "--set leaves no job: py=2"),
        (["-p", "what=x"], 2, "-p what must be a parameter of the pipeline"),
        (["-p", "what"], 2, "-p must be name=value, not 'what'"),
        (["--jobs", "0"], 2, "must be a whole number from 1 to 64"),
        (["missing.yml"], 1, "missing.yml: error: the file cannot be read"),
        (["a.lock"], 1, "a.lock:1:1: error: "),
    ],
)
def test_what_is_wrong_is_named(
    arguments: list[str],
    code: int,
    message: str,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(checkout)
    try:
        found = exec_main(arguments)
    except SystemExit as error:
        found = int(str(error.code))
    assert found == code
    assert message in capsys.readouterr().err


def test_an_interrupt_stops_the_jobs_and_their_processes(checkout: Path) -> None:
    (checkout / "slow.yml").write_text(
        "jobs:\n  slow: {steps: [{run: 'sleep 60 & touch started; wait'}]}\n"
        "  then: {needs: [slow], steps: [{run: 'true'}]}\n"
    )
    with (checkout / "printed").open("wb") as printed, ctrl_c_obeyed():
        process = subprocess.Popen(command("slow.yml"), cwd=checkout, env=ENV, stdout=printed, stderr=printed)
    try:
        eventually((checkout / "started").exists)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert time.monotonic() - began < 10
    finally:
        process.kill()
    text = (checkout / "printed").read_text()
    assert "── interrupted: the jobs are stopped" in text
    assert "then  cancelled: the run was cancelled" in text


def test_the_program_lists_its_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in ("run", "exec", "check", "upload"):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


def test_lines_of_jobs_that_run_at_once_are_whole_and_coloured_by_job() -> None:
    output = io.BytesIO()
    console = Console(output, colours=True)
    first, second = (ConsoleLog(console, name, number=number, width=3) for number, name in enumerate(("a", "bcd")))
    first.write(b"one\ntw")
    second.say("── step")
    first.write(b"o\nrest")
    first.close()
    assert output.getvalue().decode() == (
        "\033[36ma   │ \033[0mone\n\033[33mbcd │ \033[0m\033[2m── step\033[0m\n"
        "\033[36ma   │ \033[0mtwo\n\033[36ma   │ \033[0mrest\n"
    )


SECRETS = """
steps:
  - run: |
      echo "$TOKEN and $(cat "$CONFIG") and $(echo "$TOKEN" | base64)"; stat -c %a "$CONFIG"
      echo "::add-mask::made-here"; echo made-"here"; echo also-made | python3 "$HYBRID_CI_AGENT" mask; echo also-"made"
      printf %s "${TOKEN%?}"
secrets: [TOKEN, {name: CONFIG, file: true}]
"""


def test_secrets_are_variables_of_the_caller_and_are_masked(run: Exec, checkout: Path) -> None:
    (checkout / "secrets.yml").write_text(SECRETS)
    env = {"TOKEN": "token-of-the-caller", "CONFIG": "config-of-the-caller"}
    done = run("secrets.yml", "--secret=TOKEN", "--secret=CONFIG", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "*** and *** and ***" in done.stdout
    assert "\n600\n***\n***\n***\n" in done.stdout
    lacking = run("secrets.yml", "--secret=TOKEN", env={"TOKEN": "token-of-the-caller"})
    assert "── main: it runs without its secrets CONFIG; to pass on variables of yours" in lacking.stdout


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--secret=NEVER_SET", "--secret NEVER_SET takes the value of the variable NEVER_SET, which is not set\n"),
        ("--secret=PATH", "--secret must be 1 to 64 capital letters, digits and _, beginning with a letter, and no"),
    ],
)
def test_a_secret_that_cannot_be_passed_on_is_explained(option: str, expected: str, run: Exec, checkout: Path) -> None:
    (checkout / "secrets.yml").write_text(SECRETS)
    done = run("secrets.yml", option)
    assert done.returncode == 2
    assert done.stderr.startswith(expected)


def test_a_run_without_a_control_plane_has_no_identity_tokens(run: Exec, checkout: Path) -> None:
    text = 'steps: [{run: python3 "$HYBRID_CI_AGENT" token --audience aws}]\n'
    (checkout / "token.yml").write_text(text)
    done = run("token.yml")
    assert done.returncode == 1
    assert "agent token: a run on your own machine gets no identity tokens" in done.stdout


# Which job is next


def ended(nodes: list[Node], results: dict[str, str]) -> dict[str, str]:
    """How each job ends if those that run end like this."""
    plan = LocalPlan(nodes, Context(), known={})
    while not plan.is_over:
        node = plan.next()
        if node is None:
            continue
        plan.start(node)
        plan.end(node.name, Ended(results.get(node.name, "success")))
    return {name: one.result for name, one in plan.ended.items()}


def node(name: str, *needs: str, result: str = "success", condition: str | None = None, **members: object) -> Node:
    return Node(
        name,
        name.partition(" ")[0],
        needs=[{"node": need, "result": result} for need in needs],
        condition=condition,
        **members,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([node("b", "a")], "skipped"),
        ([node("b", "a", result="any")], "success"),
        ([node("b", "a", result="failure")], "success"),
        ([node("b", "c", result="failure"), node("c")], "skipped"),
        ([node("b", "a", condition="failure()")], "success"),
        ([node("b", "a", condition="always()")], "success"),
        ([node("b", "c", condition="failure()"), node("c", "a", result="any")], "success"),
        ([node("b", "c", condition="needs.c.outputs.x == 'y'"), node("c")], "skipped"),
        ([node("b", "c", condition="nonsense(")], "failure"),
        ([node("b", "allowed"), node("allowed", allow_failure=True)], "success"),
    ],
)
def test_needs_and_conditions_decide_whether_a_job_runs(jobs: list[Node], expected: str) -> None:
    assert ended([node("a"), *jobs], {"a": "failure", "allowed": "failure"})["b"] == expected


def test_a_matrix_that_fails_fast_ends_its_other_cells() -> None:
    cells = [node(f"a ({number})", fail_fast=True, max_parallel=1) for number in (1, 2, 3)]
    assert ended(cells, {"a (2)": "failure"}) == {"a (1)": "success", "a (2)": "failure", "a (3)": "cancelled"}


def test_a_matrix_runs_no_more_cells_at_once_than_it_allows() -> None:
    plan = LocalPlan([node(f"a ({number})", max_parallel=2) for number in (1, 2, 3)], Context(), known={})
    for _ in range(2):
        plan.start(plan.next())
    assert plan.next() is None
