"""Steps that run as another user than the agent. The tests need root, and users that nothing else has."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import processes
from agent.bundle import agent_bundle
from agent.errors import UsageError
from agent.removal import remove_folder
from agent.step_users import StepUser, StepUsers
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane
from tests.agent.fake_store import FakeStore
from tests.agent.storage import FakeStorage

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start processes of other users")

# Numbers without accounts, which no test at the same time has.
FIRST = 60_000 + os.getpid() % 2500 * 2
USERS = (FIRST, FIRST + 1)


@pytest.fixture
def work_dir() -> Iterator[Path]:
    """A folder that all users can enter. Those of pytest are closed."""
    path = Path(tempfile.mkdtemp(prefix="work-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    remove_folder(path)


@pytest.fixture
def agent(tmp_path: Path, plane: FakeControlPlane, work_dir: Path) -> Iterator[AgentProcess]:
    users = ",".join(map(str, USERS))
    agent = AgentProcess(tmp_path, plane, "--grace=1", f"--work-dir={work_dir}", f"--step-user={users}", "--slots=2")
    yield agent
    agent.stop()
    eventually(lambda: not agent.leftovers())
    for uid in USERS:
        assert not StepUser.find(str(uid)).processes()


ATTACK = """
id -u; id -G
grep NoNewPrivs /proc/self/status
echo written > "$HOME/file"; echo written > "$TMPDIR/file"; git status --short; echo written > file
for path in {state} {state}/identity.json {state}/spool {state}/agent; do
    ls $path && echo "REACHED ls $path"
    cat $path && echo "REACHED cat $path"
done
guard=$PPID
agent={agent}
for pid in $guard $agent; do
    kill -CONT $pid && echo "REACHED signal $pid"
    for name in environ mem maps fd/1; do cat /proc/$pid/$name && echo "REACHED $pid $name"; done
done
ls {work}/* && echo "REACHED list"
ls {work}/*/* && echo "REACHED list"
ls {other}/workspace && echo "REACHED other workspace"
cat {other}/step-1.sh && echo "REACHED other script"
kill -CONT {other_pid} && echo "REACHED other process"
touch ../step-2.sh && echo "REACHED own scripts"
echo attacked
"""


@needs_root
def test_a_step_of_another_user_reaches_neither_the_agent_s_key_nor_its_spool_nor_another_job(
    agent: AgentProcess, plane: FakeControlPlane, history: History, work_dir: Path
) -> None:
    other = plane.add_job(history.url, run="echo at $(cd .. && pwd) pid $$.; id -u; sleep 300")
    agent.start()
    plane.wait_for_output(other, " pid ")
    words = other.text.partition("\nat ")[2].split()
    script = ATTACK.format(
        state=agent.state, agent=agent.pid, work=work_dir, other=words[0], other_pid=words[2].strip(".")
    )
    job = plane.add_job(history.url, run=script)
    assert plane.finished(job)["exit_code"] == 0
    assert "REACHED" not in job.text
    assert "\nattacked\n" in job.text
    assert f"\n{USERS[1]}\n{USERS[1]}\n" in job.text, "the step has another user than the agent or the other job"
    assert "NoNewPrivs:\t1" in job.text
    assert "dubious ownership" not in job.text
    assert f"\n{USERS[0]}\n" in other.text
    other.command = "cancel"
    plane.finished(other)


EXCHANGE = """
cat dist/taken; echo changed > dist/taken; umask 077; mkdir -p dist/private; echo mine > dist/private/file
echo version=1 > $HYBRID_CI_OUTPUT
ln {secret} dist/secret && echo "REACHED secret"
echo evil > $HYBRID_CI_AGENT && echo "REACHED program"
ls {work}/*.archives && echo "REACHED archives"
echo "jobs: ..." > more.yml; {python} "$HYBRID_CI_AGENT" upload more.yml
"""


@needs_root
def test_steps_of_another_user_exchange_artifacts_outputs_and_uploads(
    agent: AgentProcess, plane: FakeControlPlane, history: History, work_dir: Path, tmp_path: Path
) -> None:
    # The users cannot enter the folder of the Python that runs the tests.
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if python is None:
        pytest.skip("this machine has no Python for other users")
    secret = work_dir / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    storage = FakeStorage(tmp_path / "storage")
    plane.store = FakeStore(storage, extension_answer=(200, {"jobs": ["more"]}))
    paths = {"paths": ["dist"], "expire_in": None}
    first = plane.add_job(
        history.url, run="mkdir dist; echo taken > dist/taken", name="first", run_id="r", group=None, artifacts=paths
    )
    agent.start()
    assert plane.finished(first)["error_message"] is None
    second = plane.add_job(
        history.url,
        run=EXCHANGE.format(secret=secret, work=work_dir, python=python),
        name="second",
        run_id="r",
        group=None,
        take=["first"],
        artifacts=paths,
        outputs=["version"],
    )
    finish = plane.finished(second)
    storage.close()
    assert (finish["error_message"], finish["outputs"]) == (None, {"version": "1"}), second.text
    assert "REACHED" not in second.text
    assert "added to the run: more\n" in second.text
    listed = plane.store.artifact("second").report["files"]
    assert [(one["path"], one["mode"]) for one in listed] == [("dist/private/file", 0o600), ("dist/taken", 0o644)]


DAEMON = """
python3 -c '
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", "echo daemon $$ >daemon; sleep 300; :"], {})
    os._exit(0)
os.wait()' || (env -i setsid sh -c 'echo daemon $$ >daemon; sleep 300; :' &)
while [ ! -s daemon ]; do sleep 0.05; done
cat daemon
"""


@needs_root
def test_no_process_of_a_step_user_outlives_its_job_even_if_its_guard_was_killed(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run=f"{DAEMON}\necho guard $PPID.; sleep 300")
    agent.start()
    plane.wait_for_output(job, "guard ")
    daemon = int(job.text.partition("daemon ")[2].split()[0])
    # A step cannot do this, but the kernel does it when memory runs out.
    os.kill(int(job.text.partition("guard ")[2].split(".")[0]), 9)
    assert plane.finished(job)["exit_code"] == 137
    eventually(lambda: daemon not in processes.process_table())
    assert all(not StepUser.find(str(uid)).processes() for uid in USERS)


@needs_root
def test_the_files_of_a_job_are_gone_afterwards_and_the_user_gets_the_next_job(
    agent: AgentProcess, plane: FakeControlPlane, history: History, work_dir: Path
) -> None:
    script = "id -u; mkdir -m 0 closed; touch ~/left; ln -s / root; git log -1"
    jobs = [plane.add_job(history.url, run=script) for _ in range(5)]
    agent.start()
    for job in jobs:
        assert plane.finished(job)["exit_code"] == 0
    eventually(lambda: not list(work_dir.glob("agent-*/*")))


@needs_root
def test_the_control_plane_cannot_make_two_jobs_share_a_user(agent: AgentProcess, plane: FakeControlPlane) -> None:
    plane.config = {"config_version": 2, "slots": 5}
    agent._arguments = tuple(word for word in agent._arguments if not word.startswith("--slots"))
    agent.start()
    plane.wait_for(lambda: plane.heartbeats and plane.heartbeats[-1]["config_version"] == 2)
    assert plane.heartbeats[-1]["free_slots"] == 2
    agent.stop()
    assert agent.start("--slots=3").exit_code() == 2
    assert "--slots must be at most 2, the number of users that --step-user names." in agent.output


CAPABILITIES = "+setuid,+setgid,+chown,+dac_override,+fowner,+kill"


@needs_root
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs a Python that other users can run")
def test_an_agent_with_capabilities_instead_of_root_passes_none_of_them_to_steps(
    plane: FakeControlPlane, history: History, work_dir: Path
) -> None:
    (work_dir / "agent.pyz").write_bytes(agent_bundle())
    agent_user = FIRST + 6000
    as_agent = [
        *("setpriv", f"--reuid={agent_user}", f"--regid={agent_user}", "--clear-groups"),
        *(f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}"),
    ]
    agent = AgentProcess(
        work_dir / "agent", plane, "--grace=1", f"--work-dir={work_dir / 'jobs'}", f"--step-user={USERS[0]}"
    )
    for path in (work_dir, work_dir / "agent", work_dir / "agent" / "home"):
        os.chown(path, agent_user, agent_user)
    (work_dir / "agent" / "home" / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    script = f"id -u; grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status; cat {agent.state}/identity.json || echo refused"
    repository = shutil.copytree(history.path, work_dir / "repository.git")
    job = plane.add_job(f"file://{repository}", run=f"{script}; mkdir -m 0 closed; sleep 300 & true")
    # git, which reads what others have written, gets none either.
    tools = work_dir / "tools"
    tools.mkdir()
    (tools / "git").write_text(
        f'#!/bin/sh\ngrep CapEff /proc/self/status >>{work_dir}/agent/git\nexec {shutil.which("git")} "$@"\n'
    )
    (tools / "git").chmod(0o755)
    search = f"PATH={tools}:{os.environ['PATH']}"
    try:
        agent.start(command=[*as_agent, "/usr/bin/env", search, "/usr/bin/python3", str(work_dir / "agent.pyz")])
        assert plane.finished(job)["exit_code"] == 0
        assert processes.owner(agent.pid) == agent_user
        assert f"\n{USERS[0]}\n" in job.text
        assert re.findall(r"Cap\w+:\t(\w+)", job.text) == ["0" * 16] * 4
        assert "refused" in job.text
        assert set((work_dir / "agent" / "git").read_text().splitlines()) == {f"CapEff:\t{'0' * 16}"}
        eventually(lambda: not list(work_dir.glob("jobs/agent-*/*")))
        assert not StepUser.find(str(USERS[0])).processes()
    finally:
        agent.stop()


@needs_root
def test_a_work_dir_that_steps_cannot_enter_ends_the_agent_with_a_hint(agent: AgentProcess, tmp_path: Path) -> None:
    assert agent.start(f"--work-dir={tmp_path / 'closed'}").exit_code() == 2
    assert f"User {USERS[0]} cannot enter {tmp_path / 'closed'}" in agent.output
    assert "give --work-dir a folder below folders that all users can enter" in agent.output


@needs_root
def test_a_state_directory_that_steps_can_read_ends_the_agent_with_a_hint(agent: AgentProcess, work_dir: Path) -> None:
    state = work_dir / "state"
    state.mkdir(mode=0o755)
    assert agent.start(f"--state-dir={state}").exit_code() == 2
    assert f"User {USERS[0]} can read the state directory {state}. Run chmod 700 on it." in agent.output


@needs_root
def test_a_user_that_something_else_has_ends_the_agent_before_it_kills_that(agent: AgentProcess) -> None:
    stranger = os.posix_spawn("/bin/sh", ["sh", "-c", f"exec setpriv --reuid={USERS[1]} --clear-groups sleep 300"], {})
    try:
        eventually(lambda: processes.owner(stranger) == USERS[1])
        assert agent.start().exit_code() == 2
        assert f"User {USERS[1]} already runs processes ({stranger})." in agent.output
        assert os.waitpid(stranger, os.WNOHANG) == (0, 0)
    finally:
        os.kill(stranger, 9)
        os.waitpid(stranger, 0)


@needs_root
def test_a_fork_bomb_of_a_step_user_ends() -> None:
    user = StepUser.find(str(USERS[0]))
    code = "import os\nfor _ in range(30): os.fork()\n"
    limits = f"ulimit -u 200; exec setpriv --reuid={user.uid} --clear-groups /usr/bin/env python3 -c '{code}'"
    shell = "while true; do for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; sh -c 'sleep 5 & sleep 5' & sleep 0.01; done"
    limits = f'exec setpriv --reuid={user.uid} --clear-groups sh -c "ulimit -u 300; {shell}"'
    bomb = os.posix_spawn("/bin/sh", ["sh", "-c", limits], {"PATH": os.environ["PATH"]})
    eventually(lambda: len(user.processes()) > 50)
    user.kill_processes()
    os.waitpid(bomb, 0)
    time.sleep(0.1)
    assert not user.processes()


@pytest.mark.parametrize("name", ["root", str(os.geteuid()), "0"])
def test_steps_never_run_as_root_or_the_agent_s_own_user(name: str) -> None:
    with pytest.raises(UsageError, match="must name users other than root and the agent's own"):
        StepUsers.find([name])


def test_an_unknown_user_is_refused() -> None:
    with pytest.raises(UsageError, match="This machine has no user 'no-such-user'"):
        StepUsers.find(["no-such-user"])
    with pytest.raises(UsageError, match="must name each user once"):
        StepUsers.find(["60001", "60001"])


def test_an_agent_without_the_right_to_switch_users_says_so(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(USERS[0])
            StepUsers.find([str(USERS[1])]).check(work_dir=Path("/"), state_dir=tmp_path)
        except UsageError as error:
            code = 0 if "The agent may not start processes as user" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_step_users_steps_run_as_the_agent_s_user() -> None:
    users = StepUsers.find([])
    assert users.take() is None
    users.give_back(None)
