"""Recognises files for other products, by a part that they need or nearly always have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from agent.pipeline.constants import GUIDE_PATH
from agent.pipeline.nodes import ListNode, MappingNode, Node, Problems

# The products whose files the control plane converts, as its command names them.
_IMPORTED = {"GitHub Actions": "github", "GitLab CI": "gitlab", "Buildkite": "buildkite"}


def other_product_explain(root: MappingNode, problems: Problems, *, own_keys: Collection[str]) -> None:
    """Say so if the text is a file for another product."""
    finders = {
        "GitHub Actions": _github_actions(root),
        "CircleCI": _circleci(root),
        "GitLab CI": _gitlab(root, own_keys),
        "Buildkite": _buildkite(root),
    }
    for product, sign in finders.items():
        if sign is not None:
            problems.explain(
                sign,
                f"must be in the format of this control plane, not in that of {product}; its page {GUIDE_PATH} shows "
                f"what to write instead{_converted(product)}",
            )
            return


def _converted(product: str) -> str:
    name = _IMPORTED.get(product)
    return f", and `manage.py pipeline_import --from {name}` converts the file" if name else ""


def _github_actions(root: MappingNode) -> Optional[Node]:
    for job in _members_of(root.members.get("jobs")):
        if {"runs-on", "uses"} & _keys(job) or any("uses" in _keys(step) for step in _entries(job, "steps")):
            return job
    # An action of its own, or steps copied out of a workflow.
    if "using" in _keys(root.members.get("runs")):
        return root.members["runs"]
    return next((step for step in _entries(root, "steps") if "uses" in _keys(step)), None)


def _gitlab(root: MappingNode, own_keys: Collection[str]) -> Optional[Node]:
    if isinstance(root.members.get("stages"), ListNode):
        return root.members["stages"]
    # Variables may have any names.
    jobs = (member for name, member in root.members.items() if name not in own_keys)
    return next((job for job in jobs if {"script", "extends", "trigger"} & _keys(job)), None)


def _circleci(root: MappingNode) -> Optional[Node]:
    if {"orbs", "workflows"} & root.members.keys() and "version" in root.members:
        return root.members["version"]
    jobs = _members_of(root.members.get("jobs"))
    return next((job for job in jobs if {"docker", "machine", "executor"} & _keys(job)), None)


def _buildkite(root: MappingNode) -> Optional[Node]:
    signs = {"command", "commands", "plugins", "block", "wait", "trigger"}
    steps = _entries(root, "steps")
    if any("run" in _keys(step) for step in steps):
        return None
    return next((step for step in steps if signs & _keys(step)), None)


def _keys(node: Optional[Node]) -> set[str]:
    return {*node.members} if isinstance(node, MappingNode) else set()


def _members_of(node: Optional[Node]) -> list[Node]:
    return [*node.members.values()] if isinstance(node, MappingNode) else []


def _entries(node: Node, name: str) -> list[Node]:
    entries = node.members.get(name) if isinstance(node, MappingNode) else None
    return entries.entries if isinstance(entries, ListNode) else []
