"""Run jobs in the current checkout without a control plane, by the code that an agent runs them with."""

from __future__ import annotations

import json
import secrets
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Optional

from agent.attempt import CANCEL, Attempt
from agent.console import Console, ConsoleLog
from agent.exchange import Artifacts, Cache, Exchange
from agent.job_archives import Place
from agent.job_commands import JobCommands
from agent.job_context import StepContext
from agent.job_ends import TIMED_OUT, Interrupted, JobFailed
from agent.job_exchange import JobExchange
from agent.job_folder import JobFolder
from agent.job_secrets import JobSecrets, SecretUse
from agent.job_steps import JobSteps, StepRecords
from agent.local_plan import CANCELLED, FAILURE, SUCCESS, Ended, LocalPlan
from agent.local_store import LocalStore, file_name
from agent.machine import MachineFailed
from agent.pipeline.constants import DEFAULT_TIMEOUT_SECONDS
from agent.pipeline.definition import Node, Pipeline, names_before
from agent.pipeline.expressions import Context
from agent.process import Launcher
from agent.protocol import Assignment, Definition, JobDetails, StepDefinition
from agent.step_door import MASK, TOKEN, StepDoor

_ENDS = "ends.json"
_NO_TOKENS = "a run on your own machine gets no identity tokens: a control plane issues them"


@dataclass(frozen=True)
class Checkout:
    """The checkout that jobs run in. `folder` is where artifacts, caches and results are kept.

    `private_dir` is for what must not reach a disk, if the machine has a place for it.
    """

    workspace: Path
    folder: Path
    ref: str
    commit: str
    private_dir: Optional[Path] = None


class LocalRun:
    """One run of jobs. `jobs` of them run at once, all in the same checkout. `secrets` has values by their names.

    `graph` are all jobs of the file, of which `nodes` run: jobs get artifacts of those that ran here before.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        nodes: list[Node],
        context: Context,
        *,
        graph: list[Node],
        checkout: Checkout,
        launcher: Launcher,
        steps: StepContext,
        console: Console,
        jobs: int,
        secrets: Mapping[str, str],
    ) -> None:
        self._secrets = secrets
        self._pipeline = pipeline
        self._nodes = nodes
        self._graph = {node.name: node for node in [*graph, *nodes]}
        self._checkout = checkout
        self._launcher = launcher
        self._steps = steps
        self._console = console
        self._jobs = jobs
        self._width = max(len(node.name) for node in nodes) if len(nodes) > 1 else 0
        self._earlier = _read_ends(checkout.folder)
        self._plan = LocalPlan(nodes, context, known=self._earlier)
        self._attempts: dict[str, Attempt] = {}
        self._ended: Queue[tuple[str, Ended]] = Queue()
        self._signals = 0

    def run(self, *, ignore_conditions: bool) -> dict[str, Ended]:
        """Run the jobs in order. Returns how each ended. Must be called in the main thread.

        SIGINT (Ctrl-C) or SIGTERM cancels what runs and what waits; the second one raises KeyboardInterrupt. With
        `ignore_conditions` the jobs run whatever their `if` and their needs say.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note_signal)
        cancelled = False
        while not self._plan.is_over:
            if self._signals and not cancelled:
                cancelled = True
                self._cancel()
            if self._signals > 1:
                raise KeyboardInterrupt
            self._start_next(ignore_conditions)
            self._take_ended()
        _write_ends(self._checkout.folder, {**self._earlier, **self._plan.ended})
        return self._plan.ended

    def _start_next(self, ignore_conditions: bool) -> None:
        while len(self._attempts) < self._jobs:
            node = self._plan.first() if ignore_conditions else self._plan.next()
            if node is None:
                return
            env = self._plan.context(node).env
            self._plan.start(node)
            attempt = Attempt(Assignment(f"local-{secrets.token_hex(4)}", 1), lambda: None)
            self._attempts[node.name] = attempt
            # No daemon: a job's processes end before this one.
            threading.Thread(target=self._work, args=(node, attempt, dict(env or {})), name=node.name).start()

    def _take_ended(self) -> None:
        with suppress(Empty):
            while True:
                name, ended = self._ended.get(timeout=0.2)
                del self._attempts[name]
                self._plan.end(name, ended)
                if self._ended.empty():
                    return

    def _note_signal(self, *_: object) -> None:
        self._signals += 1

    def _cancel(self) -> None:
        self._console.say("── interrupted: the jobs are stopped; a second interrupt ends them at once")
        self._plan.cancel()
        for attempt in self._attempts.values():
            attempt.request_end(CANCEL)

    def _work(self, node: Node, attempt: Attempt, env: dict[str, str]) -> None:
        number = next(index for index, one in enumerate(self._nodes) if one.name == node.name)
        log = ConsoleLog(self._console, node.name, number=number, width=self._width)
        ended = Ended(FAILURE)
        try:
            ended = self._run_job(node, attempt, env, log)
        finally:
            log.close()
            self._ended.put((node.name, ended))

    def _run_job(self, node: Node, attempt: Attempt, env: dict[str, str], log: ConsoleLog) -> Ended:
        name = file_name(node.name)
        private = None if self._checkout.private_dir is None else self._checkout.private_dir / name
        folder = JobFolder(self._checkout.folder / "jobs" / name, private=private, workspace=self._checkout.workspace)
        limit = node.timeout or DEFAULT_TIMEOUT_SECONDS
        commands = JobCommands(self._launcher, attempt, log, folder.workspace, timeout=limit)
        records = StepRecords(attempt)
        exchange = JobExchange(
            Place(LocalStore(self._checkout.folder, node.name), commands, log, folder), self._exchange(node)
        )
        result, reason = SUCCESS, None
        try:
            folder.create()
            self._run_steps(node, attempt, env, commands, log, folder, records, exchange)
        except JobFailed as failure:
            result, reason = FAILURE, str(failure)
        except Interrupted as interruption:
            is_late = interruption.reason == TIMED_OUT
            result = FAILURE if is_late else CANCELLED
            reason = f"The job exceeded its time limit of {limit} s." if is_late else "The job was cancelled."
        except (MachineFailed, OSError) as failure:
            result, reason = FAILURE, f"This machine could not run the job: {failure}"
        finally:
            commands.close()
            folder.remove()
        if reason is not None:
            reason = log.added.masks.mask_text(reason)
            log.say(f"── {reason}")
        return Ended(result, exchange.outputs, records.exit_code, reason)

    def _run_steps(
        self,
        node: Node,
        attempt: Attempt,
        env: dict[str, str],
        commands: JobCommands,
        log: ConsoleLog,
        folder: JobFolder,
        records: StepRecords,
        exchange: JobExchange,
    ) -> None:
        definition = Definition(
            steps=[
                StepDefinition(step.name, step.run, step.env, step.timeout)
                for step in self._pipeline.jobs[node.job].steps
            ],
            env=env,
            timeout=None,
            container=node.container,
        )
        details = JobDetails(
            pipeline="",
            repository=str(self._checkout.workspace),
            git_ref=self._checkout.ref,
            env={},
            timeout=None,
            definition=definition,
            definition_path=None,
            log_limit=None,
        )
        uses = [SecretUse.from_answer(use) for use in node.secrets]
        secrets = JobSecrets.of([use for use in uses if use.name in self._secrets], self._secrets)
        log.added.masks.add(secrets.values)
        records.define(definition.steps)
        exchange.before_steps()
        steps = JobSteps(
            self._steps,
            attempt.job,
            details,
            commands=commands,
            stream=log,
            folder=folder,
            records=records,
            secrets=secrets,
        )
        folder.add_program()
        door = StepDoor(folder.exchange, {MASK: log.added.serve, TOKEN: lambda _: (1, _NO_TOKENS)})
        door.open()
        try:
            steps.run(definition, self._checkout.commit)
        except JobFailed:
            exchange.after_failure()
            raise
        finally:
            door.close()
        exchange.after_success(lambda _: None)

    def _exchange(self, node: Node) -> Exchange:
        needs = {name: [need["node"] for need in one.needs] for name, one in self._graph.items()}
        before = names_before(node.name, needs)
        return Exchange(
            outputs=node.outputs,
            artifacts=Artifacts(node.artifacts["paths"]) if node.artifacts else None,
            take=[name for name, one in self._graph.items() if name in before and one.job in node.take],
            caches=[Cache(one["key"], one["paths"], one.get("restore_keys") or []) for one in node.caches],
        )


def _read_ends(folder: Path) -> dict[str, Ended]:
    """How jobs ended that ran here before, for jobs that need them and run alone."""
    try:
        document: dict[str, Any] = json.loads((folder / _ENDS).read_bytes())
        return {
            str(name): Ended(str(one["result"]), {str(key): str(value) for key, value in one["outputs"].items()})
            for name, one in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_ends(folder: Path, ends: dict[str, Ended]) -> None:
    document = {name: {"result": ended.result, "outputs": ended.outputs} for name, ended in ends.items()}
    (folder / _ENDS).write_text(json.dumps(document))


def exit_code(nodes: list[Node], ends: dict[str, Ended]) -> int:
    """0 if all jobs that count have succeeded or were skipped, else that of the first that has not."""
    for node in nodes:
        ended = ends[node.name]
        if ended.result == CANCELLED:
            return 130
        if ended.result == FAILURE and not node.allow_failure:
            return ended.exit_code or 1
    return 0


def result_line(ended: Ended, name: str, width: int) -> str:
    """The line about one job at the end of a run."""
    return f"{name:<{width}}  {ended.result}" + (f": {ended.reason}" if ended.reason else "")
