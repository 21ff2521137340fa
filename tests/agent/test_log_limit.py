"""Logs above their limit, and logs of killed agents: what is on disk, and what is delivered of it."""

from __future__ import annotations

import errno
import functools
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import log_stream, worker
from agent.attempt import ABANDON, Attempt
from agent.client import Client, Refused
from agent.delivery import deliver
from agent.identity import Identity
from agent.log_stream import CHUNK_BYTES, LogStream
from agent.protocol import Assignment, ControlPlane, HeartbeatAnswer
from agent.spool import Spool, SpooledAttempt
from agent.state import StateDirectory
from agent.store import Archives
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane
from tests.live_files import files_with

JOB = Assignment("job1", 1)
LIMIT = 3_000_000
TAIL = 300_000
REACHED = "── the log has reached its limit of 3.0 MB; its last lines follow when the job ends\n".encode()


@pytest.fixture
def spooled(tmp_path: Path) -> SpooledAttempt:
    return Spool(tmp_path / "spool", limit=10**9).open(JOB)


def kept(spooled: SpooledAttempt) -> bytes:
    return b"".join(spooled.read_chunk(sequence) for sequence in spooled.sequences())


def on_disk(spooled: SpooledAttempt) -> int:
    return sum(path.stat().st_size for path in spooled.path.iterdir())


@functools.cache
def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last))


def cut_log(text: bytes) -> tuple[bytes, int, bytes]:
    """What is before and after the two lines about the cut, and the bytes that were left out."""
    match = re.fullmatch(
        rb"(.*)" + REACHED + rb"\xe2\x94\x80\xe2\x94\x80 cut off here: ([\d.,]+) (MB|bytes) were left out\n(.*)",
        text,
        re.DOTALL,
    )
    assert match is not None, text[-400:]
    number = match[2].replace(b",", b"")
    return match[1], int(float(number) * 1_000_000) if match[3] == b"MB" else int(number), match[4]


# --- logs are bounded, and the end is kept ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [61, 1_000, 64_001, 9_000_000])
def test_a_log_above_its_limit_says_how_much_was_left_out_and_keeps_its_end(spooled: SpooledAttempt, size: int) -> None:
    printed = lines(0, 900_000 if size > 61 else 300_000)
    stream = LogStream(spooled, limit=LIMIT)
    for start in range(0, len(printed), size):
        stream.write(printed[start : start + size])
    assert on_disk(spooled) <= LIMIT + TAIL + 1000
    stream.finish({"exit_code": 0})
    before, left_out, end = cut_log(kept(spooled))
    begin = before if before == printed[: LIMIT - TAIL] else before.removesuffix(b"\n")
    assert begin == printed[: LIMIT - TAIL]
    assert printed.endswith(end)
    assert end.startswith(b"line ")
    assert TAIL - 20 < len(end) <= TAIL
    assert abs(left_out - (len(printed) - len(begin) - len(end))) < 100_000
    sizes = [len(spooled.read_chunk(sequence)) for sequence in spooled.sequences()]
    assert max(sizes) <= CHUNK_BYTES
    assert spooled.read_report()["log_chunks"] == len(sizes)


@pytest.mark.parametrize("short", [0, 1, TAIL, TAIL + 1])
def test_a_log_up_to_its_limit_is_whole(spooled: SpooledAttempt, short: int) -> None:
    printed = lines(0, 500_000)[: LIMIT - short]
    stream = LogStream(spooled, limit=LIMIT)
    stream.write(printed)
    stream.finish({})
    assert kept(spooled) == printed


def test_a_few_bytes_above_the_limit_are_left_out_to_the_byte(spooled: SpooledAttempt) -> None:
    printed = lines(0, 500_000)[: LIMIT + 5]
    stream = LogStream(spooled, limit=LIMIT)
    stream.write(printed)
    stream.finish({})
    _, left_out, end = cut_log(kept(spooled))
    assert left_out + len(end) == TAIL + 5


def test_the_lines_of_the_agent_are_in_the_end_that_is_kept(spooled: SpooledAttempt) -> None:
    stream = LogStream(spooled, limit=LIMIT)
    stream.write(b"x" * 2 * LIMIT)
    stream.say("── step 1/1: test · exit code 1")
    stream.finish({})
    assert kept(spooled).decode().endswith("x\n── step 1/1: test · exit code 1\n")


def test_one_endless_line_and_binary_output_are_cut_too(spooled: SpooledAttempt) -> None:
    stream = LogStream(spooled, limit=LIMIT)
    printed = bytes(range(10)) + bytes(range(11, 256))
    for _ in range(200):
        stream.write(printed * 200)
    stream.finish({})
    before, _, end = cut_log(kept(spooled))
    assert before.endswith(b"\n")
    assert end == (printed * 200 * 200)[-TAIL:]


def test_the_chunks_before_the_cut_are_delivered_while_the_job_still_prints(spooled: SpooledAttempt) -> None:
    stream = LogStream(spooled, limit=LIMIT)
    sequences = stream.sequences()
    stream.write(b"x" * 5_000_000)
    said = b"".join(spooled.read_chunk(next(sequences)) for _ in range(28))
    assert said.startswith(b"x" * (LIMIT - TAIL))
    assert said.endswith(
        "── the log has reached its limit of 3.0 MB; its last lines follow when the job ends\n".encode()
    )


def test_a_job_that_prints_without_end_needs_no_more_disk_and_waits_for_nothing(tmp_path: Path) -> None:
    """Not even for a control plane that takes no chunk: only up to the limit, the spool has to have room."""
    spooled = Spool(tmp_path / "spool", limit=LIMIT + CHUNK_BYTES).open(JOB)
    stream = LogStream(spooled, limit=LIMIT)
    block = b"y" * 65536
    most = 0
    for number in range(3_000):
        stream.write(block)
        if number % 200 == 0:
            most = max(most, on_disk(spooled))
    assert most <= LIMIT + TAIL + 1000
    stream.finish({})
    assert len(kept(spooled)) <= LIMIT + 1000


def test_the_agent_cuts_a_log_at_the_limit_that_the_control_plane_names(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="echo begun; seq 1 1000000; echo the last words")
    job.log_limit = 1_000_000
    agent.start()
    plane.finished(job)
    assert len(job.log) < 1_001_000
    assert "begun\n1\n2\n" in job.text
    assert re.search("── cut off here: 5.9 MB were left out\n\\d+\n", job.text)
    assert "999999\n1000000\nthe last words\n── step 1/1: only · exit code 0" in job.text


# --- what was printed before a crash ----------------------------------------------------------------------------------


def recovered(spooled: SpooledAttempt) -> bytes:
    """What the next run of the agent finds, which knows only the disk."""
    (found,) = Spool(spooled.path.parent, limit=10**9).recover()
    LogStream.recover(found)
    return kept(found)


@pytest.mark.parametrize("size", [1, 99_999, 100_000, 250_001])
def test_all_that_was_written_is_on_disk_when_the_agent_is_killed(spooled: SpooledAttempt, size: int) -> None:
    printed = lines(0, 100_000)[:size]
    LogStream(spooled).write(printed)
    assert recovered(spooled) == printed


@pytest.mark.parametrize("size", [LIMIT - TAIL, LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT])
def test_the_end_of_a_long_log_is_on_disk_when_the_agent_is_killed(spooled: SpooledAttempt, size: int) -> None:
    printed = lines(0, 900_000)[:size]
    LogStream(spooled, limit=LIMIT).write(printed)
    found = recovered(spooled)
    # A second crash before anything is delivered changes nothing.
    assert recovered(spooled) == found
    if size <= LIMIT:
        assert found.replace(b"\n", b"") == printed.replace(b"\n", b"")
    else:
        assert printed.endswith(cut_log(found)[2])


def test_an_agent_that_is_killed_while_it_completes_a_cut_log_completes_it_next_time(
    spooled: SpooledAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = LogStream(spooled, limit=LIMIT)
    stream.write(lines(0, 900_000))
    with monkeypatch.context() as context:
        context.setattr(SpooledAttempt, "write_report", lambda *_: os.strerror(0) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stream.finish({})
    assert lines(0, 900_000).endswith(cut_log(recovered(spooled))[2])


def test_what_an_attempt_printed_before_its_agents_crash_is_delivered_while_the_attempt_is_still_that_agents(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    run = f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; seq 1 100000; printf 'no newline'; sleep 300"
    steps = [{"name": "only", "run": run}]
    job = plane.add_job(history.url, steps=steps)
    agent.start()
    plane.wait_for_output(job, "begun")
    plane.fail("/log/", 503, times=10_000)
    (tmp_path / "go").touch()
    eventually(lambda: files_with([b"100000\nno newline"], agent.state / "spool"))
    agent.kill()
    heartbeats = len(plane.heartbeats)
    agent.start()
    plane.wait_for(lambda: len(plane.heartbeats) > heartbeats)
    # The log cannot be delivered yet, so heartbeats still name the attempt.
    assert {entry["job_id"] for sent in plane.heartbeats[heartbeats:] for entry in sent["running"]} == {job.job_id}
    assert "no newline" not in job.text
    plane.faults.clear()
    plane.wait_for(lambda: plane.heartbeats[-1]["running"] == [])
    assert job.text.endswith("99999\n100000\nno newline")
    assert (job.finishes, job.starts) == (0, 1)
    eventually(lambda: not list((agent.state / "spool").iterdir()))
    assert plane.finished(plane.add_job(history.url))["exit_code"] == 0


def test_an_attempt_that_the_control_plane_has_ended_meanwhile_is_dropped(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="echo begun; sleep 300")
    agent.start()
    plane.wait_for_output(job, "begun")
    plane.fail("/log/", 503, times=10_000)
    agent.kill()
    (agent.state / "spool" / f"{job.job_id}.1" / "00000077.growing").write_bytes(b"the rest")
    plane.faults.clear()
    job.stale = True
    agent.start()
    eventually(lambda: not list((agent.state / "spool").iterdir()))
    assert plane.finished(plane.add_job(history.url))["exit_code"] == 0


# --- what disks and control planes refuse -----------------------------------------------------------------------------


def test_a_disk_that_is_full_for_a_while_damages_no_chunk(
    spooled: SpooledAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = LogStream(spooled)
    stream.write(b"before\n")
    write, room = os.write, [3]

    def full(descriptor: int, data: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as context:
        context.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left on device"):
            stream.write(b"lost output\n")
    stream.write(b"x" * 2 * CHUNK_BYTES)
    stream.say("after")
    stream.finish({})
    assert kept(spooled) == b"before\n" + b"x" * 2 * CHUNK_BYTES + b"\nafter\n"
    assert max(len(spooled.read_chunk(sequence)) for sequence in spooled.sequences()) == CHUNK_BYTES


class Plane:
    """A control plane that refuses the second chunk."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.log_of: dict[int, bytes] = {}
        self.report: Any = None

    def log(self, _job: Assignment, sequence: int, data: bytes, *, times: Any, stop: Any) -> None:
        if sequence == 1:
            raise Refused(409, self.code, "it was refused", [])
        self.log_of[sequence] = data

    def finish(self, _job: Assignment, report: Any, *, wants_next: bool, stop: Any) -> None:
        self.report = report


@pytest.mark.parametrize("code", ["log_chunk_conflict", "log_chunk_too_large"])
def test_a_refused_chunk_loses_neither_the_job_nor_the_rest_of_the_log(
    spooled: SpooledAttempt, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream, plane, attempt = LogStream(spooled), Plane(code), Attempt(JOB, lambda: None)
    stream.write(b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES + b"c")
    stream.finish({"exit_code": 0})
    deliver(plane, attempt, spooled, stream.sequences(), lambda: False)  # type: ignore[arg-type]
    assert plane.log_of == {0: b"a" * CHUNK_BYTES, 2: b"c"}
    assert plane.report == {"exit_code": 0, "log_chunks": 3}
    assert attempt.end_reason is None
    assert "chunk 1 of the log of job job1 attempt 1 is lost" in caplog.text


def test_a_stale_attempt_is_still_dropped(spooled: SpooledAttempt) -> None:
    stream, plane, attempt = LogStream(spooled), Plane("stale_attempt"), Attempt(JOB, lambda: None)
    stream.write(b"a" * CHUNK_BYTES * 2)
    stream.finish({"exit_code": 0})
    deliver(plane, attempt, spooled, stream.sequences(), lambda: False)  # type: ignore[arg-type]
    assert (plane.report, attempt.end_reason) == (None, ABANDON)


def test_a_hundred_thousand_tiny_writes_cost_little(spooled: SpooledAttempt) -> None:
    stream = LogStream(spooled)
    began = time.process_time()
    for _ in range(100_000):
        stream.write(b"x")
    stream.finish({})
    assert time.process_time() - began < 5
    assert kept(spooled) == b"x" * 100_000


def test_the_limit_of_an_older_control_plane_is_100_megabytes() -> None:
    assert log_stream.LIMIT_BYTES == 100_000_000


def test_an_agent_gives_up_what_it_cannot_deliver_of_an_earlier_run_so_that_the_job_runs_again(
    spooled: SpooledAttempt, plane: FakeControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_INTERRUPTED_DELIVERY_SECONDS", 0.3)
    LogStream(spooled).write(b"printed")
    client = Client(plane.url)
    client.identity = Identity(url=plane.url, agent_id="agent1", key_id="agent1.1", key=b"k" * 32)
    control_plane = ControlPlane(client)
    state = StateDirectory(tmp_path / "state")
    context = SimpleNamespace(
        git_env={},
        spool=Spool(spooled.path.parent, limit=10**9),
        plane=control_plane,
        work_dir=tmp_path,
        archives=Archives(tmp_path / "archives"),
    )
    agent = worker.Agent(client=client, plane=control_plane, context=context, state=state, slots=1)  # type: ignore[arg-type]
    plane.fail("/log/", 503, times=1000)
    (found,) = context.spool.recover()
    agent._deliver_recovered(found)
    time.sleep(0.5)
    assert [entry["job_id"] for entry in agent._report()["running"]] == [JOB.job_id], "no answer, no limit"
    agent._handle_answer(HeartbeatAnswer("healthy", 1, None, [], []))
    eventually(lambda: not agent._report()["running"])
    assert not found.path.exists()
    state.close()
    client.addresses.used.close_idle()
