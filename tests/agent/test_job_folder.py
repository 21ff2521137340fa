"""Each job has its own home, temporary folder and git configuration. The checkout has the machine's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from agent.environment import git_environment, step_environment
from agent.job_folder import JobFolder
from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import FakeControlPlane


@pytest.fixture
def decoy(tmp_path: Path) -> History:
    """The repository to which a hostile job redirects the others."""
    decoy = History(tmp_path / "decoy")
    decoy.commit_entry("file", b"", "decoy")
    return decoy


@pytest.mark.parametrize("scope", ["--global", '--file "$HOME/.gitconfig"'])
def test_one_job_s_git_configuration_does_not_make_the_next_job_build_other_code(
    scope: str, serial_agent: AgentProcess, shared_plane: FakeControlPlane, history: History, decoy: History
) -> None:
    hostile = shared_plane.add_job(
        history.url,
        run=f"git config {scope} url.{decoy.url}.insteadOf {history.url}; git ls-remote {history.url}",
    )
    victim = shared_plane.add_job(history.url, run=f"git config --global --list || true; git ls-remote {history.url}")
    assert shared_plane.finished(hostile)["exit_code"] == 0
    # Here the redirection works: only the hostile job itself gets other code.
    assert "refs/heads/decoy" in hostile.text
    assert shared_plane.finished(victim)["commit"] == history.commits[2]
    assert "refs/heads/main" in victim.text
    assert "decoy" not in victim.text


def test_each_job_has_its_own_empty_home_and_temporary_folder(
    serial_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    script = 'echo "home $HOME tmp $TMPDIR"; ls -A "$HOME" "$TMPDIR"; touch "$HOME/.left" "$TMPDIR/left"; mktemp'
    jobs = [shared_plane.add_job(history.url, steps=[{"name": "one", "run": script}]) for _ in range(2)]
    places = set()
    for job in jobs:
        assert shared_plane.finished(job)["exit_code"] == 0
        assert "left" not in job.text
        (line,) = [line for line in job.text.splitlines() if line.startswith("home ")]
        places.add(line)
        _, home, _, temporary = line.split()
        assert f"\n{temporary}/tmp." in job.text
        folders = [Path(home), Path(temporary)]
        assert all(job.job_id in str(folder) for folder in folders)
        # The agent removes them beside its last report.
        shared_plane.wait_for(partial(_are_gone, folders))
    assert len(places) == 2


def _are_gone(folders: Sequence[Path]) -> bool:
    return not any(folder.exists() for folder in folders)


def test_steps_of_one_job_share_their_home(
    serial_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    job = shared_plane.add_job(
        history.url,
        steps=[
            {"name": "set", "run": "git config --global user.name Someone; mkdir ~/cache"},
            {"name": "use", "run": "git config user.name; ls ~"},
        ],
    )
    assert shared_plane.finished(job)["exit_code"] == 0
    assert "\nSomeone\n" in job.text
    assert "\ncache\n" in job.text


def test_the_checkout_uses_the_home_and_git_configuration_of_the_agent_s_user(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    (tmp_path / "home" / ".gitconfig").write_text(f'[url "{history.url}"]\n\tinsteadOf = https://code.invalid/\n')
    job = plane.add_job("https://code.invalid/", run="git config --global --list; true")
    agent.start()
    assert plane.finished(job)["commit"] == history.commits[2]
    assert "insteadof" not in job.text


def test_options_pass_variables_but_never_the_home_of_the_agent(tmp_path: Path) -> None:
    machine = {"HOME": "/home/ci", "TMPDIR": "/var/tmp", "GIT_CONFIG_GLOBAL": "/etc/x", "XDG_CACHE_HOME": "/cache"}
    assert step_environment(machine, []) == {}
    own = JobFolder(tmp_path).environment()
    step = {**step_environment(machine, ["*"]), **own}
    assert step == {**own, "XDG_CACHE_HOME": "/cache"}
    assert set(own) == {"HOME", "TMPDIR", "GIT_CONFIG_GLOBAL", "HYBRID_CI_OUTPUT"}
    assert git_environment(machine) == {name: machine[name] for name in ("HOME", "TMPDIR", "GIT_CONFIG_GLOBAL")}


def test_a_script_is_never_written_through_a_link_that_an_earlier_step_left(tmp_path: Path) -> None:
    target = tmp_path / "target"
    folder = JobFolder(tmp_path / "job")
    folder.create()
    (folder.path / "step-2.sh").symlink_to(target)
    with pytest.raises(FileExistsError):
        folder.write_script("step-2.sh", "true")
    assert not target.exists()
