"""The graph of a run as it is stored: the nodes that its pipeline file has made, each with the id of its first job."""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from apps.pipelines.definitions import FIRST_NODE, Node, names_before


@dataclass(frozen=True)
class GraphJob:
    """A job of the graph. `first_id` is the id of its first record; each retry has another.

    `digest` is that of its work, if later jobs may take its result.
    """

    node: Node
    first_id: str
    digest: str | None = None

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def job(self) -> str:
        """The job of the file, which cells of a matrix share."""
        return self.node.job

    @cached_property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """The jobs that it needs, and with which result."""
        return tuple((need["node"], need["result"]) for need in self.node.needs)

    @property
    def condition(self) -> str | None:
        return self.node.condition

    @property
    def allow_failure(self) -> bool:
        return self.node.allow_failure

    @property
    def max_parallel(self) -> int | None:
        return self.node.max_parallel

    @property
    def fail_fast(self) -> bool:
        return self.node.fail_fast


def file_job(job_id: str) -> GraphJob:
    """The first job of a graph, which reads the file."""
    return GraphJob(Node(FIRST_NODE, FIRST_NODE), job_id)


def graph_pack(jobs: Sequence[GraphJob]) -> bytes:
    """The jobs as a part of the graph is stored."""
    return pack([{"id": job.first_id, "digest": job.digest, **job.node.as_dict()} for job in jobs])


def graph_unpack(packed: bytes) -> list[GraphJob]:
    """The jobs of a stored part."""
    return [GraphJob(Node.from_dict(members), members["id"], members.get("digest")) for members in unpack(packed)]


def jobs_before(name: str, jobs: Iterable[GraphJob]) -> set[str]:
    """The names of the jobs that have ended before this one starts: those that it needs, itself or through others."""
    return names_before(name, {job.name: [need for need, _ in job.needs] for job in jobs})


def ordered(jobs: Sequence[GraphJob]) -> list[GraphJob]:
    """The jobs in an order in which each follows those that it needs; else they keep theirs."""
    named = {job.name: job for job in jobs}
    placed: dict[str, GraphJob] = {}
    pending = [(job, False) for job in reversed(jobs)]
    while pending:
        job, needs_are_placed = pending.pop()
        if job.name in placed:
            continue
        if needs_are_placed:
            placed[job.name] = job
            continue
        pending.append((job, True))
        pending += [(named[name], False) for name, _ in reversed(job.needs) if name in named and name not in placed]
    return list(placed.values())


def pack(value: Any) -> bytes:
    """JSON in gzip. The same value gives the same bytes."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return gzip.compress(text.encode("utf-8", "surrogatepass"), compresslevel=6, mtime=0)


def unpack(packed: bytes) -> Any:
    """The value that `pack` packed."""
    return json.loads(gzip.decompress(packed))
