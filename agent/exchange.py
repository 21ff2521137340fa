"""What a job exchanges with other jobs: artifacts, caches and outputs, as the control plane names them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass(frozen=True)
class Artifacts:
    """The files that a job stores: patterns, and for how many seconds they are kept; None: as long as is usual."""

    paths: list[str]
    expire_in: Optional[int] = None


@dataclass(frozen=True)
class Cache:
    """Paths that are restored before the steps and saved after them. The keys may contain ``${{ hashFiles('…') }}``."""

    key: str
    paths: list[str]
    restore_keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exchange:
    """What one job exchanges. `take` has the jobs whose artifacts it gets, `outputs` the names that it may write."""

    outputs: list[str] = field(default_factory=list)
    artifacts: Optional[Artifacts] = None
    take: list[str] = field(default_factory=list)
    caches: list[Cache] = field(default_factory=list)

    @classmethod
    def from_answer(cls, answer: dict[str, Any]) -> Exchange:
        """What an answer names. An older control plane names nothing. Raises ValueError and its like."""
        artifacts = answer.get("artifacts")
        return cls(
            outputs=_texts(answer.get("outputs")),
            artifacts=Artifacts(_texts(artifacts["paths"]), _whole(artifacts.get("expire_in"))) if artifacts else None,
            take=[str(one["node"]) if isinstance(one, dict) else str(one) for one in answer.get("take") or ()],
            caches=[
                Cache(str(one["key"]), _texts(one["paths"]), _texts(one.get("restore_keys")))
                for one in answer.get("caches") or ()
            ],
        )


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value or ()]


def _whole(value: Any) -> Optional[int]:
    return None if value is None else int(value)
