"""Reading targets and rules. All reads are consistent, but for `rules_any`, which may be ten seconds old."""

import json
import re
from collections.abc import Iterable

from django.core.cache import cache

from apps.notifications.models import RESULTS, RULES, TARGETS, BranchResult, Rule, Target
from apps.notifications.senders.addresses import Address
from apps.notifications.states import Occasion, any_matches
from controlplane.lib import clock
from controlplane.lib.envelope import decrypt
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound
from controlplane.lib.ids import ID_PATTERN

__all__ = [
    "Rule",
    "Target",
    "branch_result",
    "rule_get",
    "rule_list",
    "rules_any",
    "rules_ask",
    "rules_forget",
    "rules_matching",
    "target_address",
    "target_context",
    "target_find",
    "target_get",
    "target_list",
]

_ID = re.compile(ID_PATTERN)
# The start of a run must not read all rules each time, so a process remembers for so many seconds whom they concern.
_REMEMBERED_SECONDS = 10
_CACHE_KEY = "notification-rules"


def target_list() -> list[Target]:
    """All targets by their names: there is a limit to them. One query."""
    return sorted(Target.query(TARGETS, consistent_read=True), key=lambda target: (str(target.name), target.target_id))


def target_find(target_id: str) -> Target | None:
    """The target with this id, or None."""
    return Target.find(TARGETS, target_id) if _ID.fullmatch(target_id) else None


def target_get(target_id: str) -> Target:
    """The target with this id. Raises NotFound with the code ``notification_target_not_found``."""
    target = target_find(target_id)
    if target is None:
        raise NotFound("There is no such notification target.", code=ErrorCode.NOTIFICATION_TARGET_NOT_FOUND)
    return target


def target_context(target_id: str) -> tuple[str, ...]:
    """The place for which the address of a target is encrypted."""
    return ("notification-target", target_id, "address")


def target_address(target: Target) -> Address:
    """Where the target is, decrypted, with the secrets by which its messages are signed now.

    Raises DecryptionFailed, or Unavailable when KMS does not answer.
    """
    target_id = str(target.target_id)
    stored = json.loads(decrypt(str(target.encrypted), context=target_context(target_id)))
    if not target.overlap_until or target.overlap_until <= clock.timestamp(clock.now()):
        stored["secrets"] = stored["secrets"][:1]
    return Address.of_json(stored)


def rule_list() -> list[Rule]:
    """All rules, the oldest first: there is a limit to them. One query."""
    return list(Rule.query(RULES, consistent_read=True))


def rule_get(rule_id: str) -> Rule:
    """The rule with this id. Raises NotFound with the code ``notification_rule_not_found``."""
    rule = Rule.find(RULES, rule_id) if _ID.fullmatch(rule_id) else None
    if rule is None:
        raise NotFound("There is no such notification rule.", code=ErrorCode.NOTIFICATION_RULE_NOT_FOUND)
    return rule


def rules_any(pipeline: str) -> bool:
    """Whether any rule concerns the pipeline, as of the last ten seconds. Usually no read."""
    return any(any_matches(patterns, pipeline) for patterns, _ in _remembered())


def rules_ask(occasion: Occasion) -> bool:
    """Whether any rule asks for the occasion, as of the last ten seconds. Usually no read."""
    return any(occasion in occasions for _, occasions in _remembered())


def _remembered() -> list[tuple[list[str], list[str]]]:
    """The patterns of pipelines and the occasions of all rules."""
    known: list[tuple[list[str], list[str]]] | None = cache.get(_CACHE_KEY)
    if known is None:
        known = [(list(map(str, rule.pipelines)), list(map(str, rule.occasions))) for rule in rule_list()]
        cache.set(_CACHE_KEY, known, _REMEMBERED_SECONDS)
    return known


def rules_forget() -> None:
    """Have this process read the rules again, since it has changed one."""
    cache.set(_CACHE_KEY, None)


def rules_matching(*, pipeline: str | None, branch: str | None, occasions: Iterable[Occasion]) -> list[Rule]:
    """The rules that ask for one of these occasions. What has no pipeline or branch matches no pattern."""
    wanted = set(occasions)
    return [
        rule
        for rule in rule_list()
        if wanted & set(rule.occasions) and _concerns(rule.pipelines, pipeline) and _concerns(rule.branches, branch)
    ]


def _concerns(patterns: Iterable[str], name: str | None) -> bool:
    return any_matches(patterns, name) if name is not None else not list(patterns)


def branch_result(pipeline: str, git_ref: str) -> BranchResult | None:
    """How the newest run of the pipeline and ref has ended, as far as rules concerned it; or None."""
    return BranchResult.find(f"{RESULTS}{pipeline}", git_ref)
