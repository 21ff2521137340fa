"""Which job of a local run is next. The rules are those of the control plane (`apps.jobs.run_plan`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Optional

from agent.pipeline.definition import Node
from agent.pipeline.expressions import Context, ExpressionInvalid, NotYetKnown, condition_met, template

SUCCESS, FAILURE, CANCELLED, SKIPPED = "success", "failure", "cancelled", "skipped"
# Of a matrix that is needed, the worst result of all cells counts.
_BY_BADNESS = (SUCCESS, SKIPPED, CANCELLED, FAILURE)


@dataclass(frozen=True)
class Ended:
    """How a job ended. `reason` says why it did not run or what failed."""

    result: str
    outputs: dict[str, str] = field(default_factory=dict)
    exit_code: Optional[int] = None
    reason: Optional[str] = None


class LocalPlan:
    """The jobs of a run: which have ended, which run, and which may start."""

    def __init__(self, nodes: list[Node], context: Context, *, known: dict[str, Ended]) -> None:
        """`known` has how other jobs ended that these need; they are not part of this run."""
        self._waiting = {node.name: node for node in nodes}
        self._nodes = dict(self._waiting)
        self._context = context
        self._known = known
        self._running: set[str] = set()
        self.ended: dict[str, Ended] = {}

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._waiting and not self._running

    def start(self, node: Node) -> None:
        """The job runs now."""
        del self._waiting[node.name]
        self._running.add(node.name)

    def end(self, name: str, ended: Ended) -> None:
        """The job has ended."""
        self._running.discard(name)
        self._waiting.pop(name, None)
        self.ended[name] = ended
        node = self._nodes[name]
        if node.fail_fast and not node.allow_failure and ended.result == FAILURE:
            for other in [one for one in self._waiting.values() if one.job == node.job]:
                self.end(other.name, Ended(CANCELLED, reason=f"{name} failed"))

    def cancel(self) -> None:
        """End what waits."""
        for name in list(self._waiting):
            self.end(name, Ended(CANCELLED, reason="the run was cancelled"))

    def next(self) -> Optional[Node]:
        """A job that may start now. Jobs that cannot run any more end here."""
        for node in list(self._waiting.values()):
            if node.name in self._waiting and self._needs_ended(node) and self._has_slot(node) and self._decide(node):
                return node
        return None

    def first(self) -> Optional[Node]:
        """The job that has waited for the longest, whatever its needs and its condition say."""
        return next(iter(self._waiting.values()), None)

    def context(self, node: Node) -> Context:
        """What expressions of a job mean whose needs have ended."""
        results = self._results(node)
        needs: dict[str, dict[str, Any]] = {}
        for need in node.needs:
            ended = self._end_of(need["node"])
            job = self._job_of(need["node"])
            before = needs.setdefault(job, {"result": SUCCESS, "outputs": {}})
            before["outputs"].update(ended.outputs)
            before["result"] = max(before["result"], results[need["node"]], key=_BY_BADNESS.index)
        context = replace(
            self._context,
            matrix=node.cell,
            needs=needs,
            needs_met=not self._unmet(node, results),
            failed_before=any(self._has_failure(need["node"]) for need in node.needs),
        )
        return replace(context, env={name: template(value, context) for name, value in node.env.items()})

    def _needs_ended(self, node: Node) -> bool:
        return all(need["node"] not in self._nodes or need["node"] in self.ended for need in node.needs)

    def _has_slot(self, node: Node) -> bool:
        cells = [name for name in self._running if self._nodes[name].job == node.job]
        return node.max_parallel is None or len(cells) < node.max_parallel

    def _decide(self, node: Node) -> bool:
        try:
            if condition_met(node.condition, self.context(node)):
                return True
        except (ExpressionInvalid, NotYetKnown) as error:
            self.end(node.name, Ended(FAILURE, reason=f"its condition or env cannot be evaluated: {error}"))
            return False
        unmet = self._unmet(node, self._results(node))
        self.end(node.name, Ended(SKIPPED, reason=unmet or f"its condition is false: {node.condition}"))
        return False

    def _results(self, node: Node) -> dict[str, str]:
        found = {}
        for need in node.needs:
            name = need["node"]
            other, result = self._nodes.get(name), self._end_of(name).result
            found[name] = SUCCESS if other is not None and other.allow_failure and result == FAILURE else result
        return found

    def _unmet(self, node: Node, results: dict[str, str]) -> str:
        for need in node.needs:
            if need["result"] == SUCCESS and results[need["node"]] != SUCCESS:
                return f"{need['node']} ended with {results[need['node']]}"
        failing = [need["node"] for need in node.needs if need["result"] == FAILURE]
        if failing and all(results[name] != FAILURE for name in failing):
            return f"{', '.join(failing[:3])} did not fail"
        return ""

    def _has_failure(self, name: str) -> bool:
        """Whether the job, or one before it, failed."""
        seen, pending = set(), [name]
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            node = self._nodes.get(current)
            if self._end_of(current).result == FAILURE and not (node and node.allow_failure):
                return True
            pending += [need["node"] for need in node.needs] if node else []
        return False

    def _end_of(self, name: str) -> Ended:
        return self.ended.get(name) or self._known.get(name) or Ended(SUCCESS)

    def _job_of(self, name: str) -> str:
        node = self._nodes.get(name)
        return node.job if node else name.partition(" (")[0]
