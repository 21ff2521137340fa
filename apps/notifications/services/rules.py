"""Writing rules: which target hears of what."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add, changes_detail
from apps.notifications.models import RULES, TARGETS, Rule, Target
from apps.notifications.policies import notifications_manage_require
from apps.notifications.selectors.targets import rule_get, rule_list, rules_forget, target_get
from apps.notifications.states import Occasion
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction, TransactionFailed

# All are read for each happening. A target is deleted with its rules by one transaction.
MAX_RULES, MAX_OF_TARGET = 200, 50
MAX_PATTERNS, MAX_PATTERN = 20, 255
_MEMBERS = ("target_id", "pipelines", "branches", "occasions")


def rule_create(
    *,
    actor: Actor,
    target_id: str,
    occasions: Sequence[str],
    pipelines: Sequence[str] = (),
    branches: Sequence[str] = (),
) -> Rule:
    """Tell the target of these occasions. Patterns (``release/*``) limit it to pipelines and branches; none: all.

    It concerns runs that start from ten seconds after. Raises Forbidden, InvalidInput, and Conflict with the code
    ``too_many_notification_rules``.
    """
    notifications_manage_require(actor)
    members = _members_validate(
        {"target_id": target_id, "pipelines": pipelines, "branches": branches, "occasions": occasions}
    )
    known = rule_list()
    if len(known) >= MAX_RULES or sum(rule.target_id == target_id for rule in known) >= MAX_OF_TARGET:
        raise Conflict(
            f"There are {MAX_RULES} rules, or {MAX_OF_TARGET} of this target. Delete one.",
            code=ErrorCode.TOO_MANY_NOTIFICATION_RULES,
        )
    now = clock.timestamp(clock.now())
    rule = Rule(
        RULES, new_id(), created_at=now, created_by=actor.name, changed_at=now, changed_by=actor.name, **members
    )
    transaction = Transaction()
    transaction.put("rule", rule)
    _target_there(transaction, target_id)
    _audit(transaction, rule, actor, Action.NOTIFICATION_RULE_CREATED, _described(rule))
    try:
        transaction.commit()
    except TransactionFailed as failure:
        raise _no_target() from failure
    rules_forget()
    return rule


def rule_change(*, actor: Actor, rule_id: str, revision: int | None = None, **members: Any) -> Rule:
    """Change members of a rule: target_id, pipelines, branches, occasions. Others stay as they are.

    With `revision`, only if it still has this one. Raises Forbidden, NotFound, InvalidInput, and Conflict with the code
    ``changed_meanwhile``.
    """
    notifications_manage_require(actor)
    current = rule_get(rule_id)
    before = {name: getattr(current, name) for name in _MEMBERS}
    wanted = _members_validate({**before, **members})
    if before == wanted and revision in (None, current.revision):
        return current
    transaction = Transaction()
    stamped = {**wanted, "changed_at": clock.timestamp(clock.now()), "changed_by": actor.name}
    unchanged = Rule.revision == (current.revision if revision is None else revision)
    transaction.update(
        "rule",
        current,
        actions=[*(getattr(Rule, name).set(value) for name, value in stamped.items()), Rule.revision.add(1)],
        condition=unchanged,
    )
    _target_there(transaction, wanted["target_id"])
    detail = changes_detail(before, wanted)
    _audit(transaction, current, actor, Action.NOTIFICATION_RULE_CHANGED, detail)
    try:
        transaction.commit()
    except TransactionFailed as failure:
        if "target" in failure.failed:
            raise _no_target() from failure
        rule_get(rule_id)
        raise Conflict(
            "Another user changed this rule in the meantime. Check it and save again.",
            code=ErrorCode.CHANGED_MEANWHILE,
        ) from failure
    rules_forget()
    return rule_get(rule_id)


def rule_delete(*, actor: Actor, rule_id: str) -> None:
    """Delete the rule. What was announced by it is still sent. Raises Forbidden, NotFound."""
    notifications_manage_require(actor)
    rule = rule_get(rule_id)
    transaction = Transaction()
    transaction.delete("rule", rule, Rule.rule_id.exists())
    _audit(transaction, rule, actor, Action.NOTIFICATION_RULE_DELETED, _described(rule))
    with suppress(TransactionFailed):
        # Another request has deleted it at the same moment.
        transaction.commit()
    rules_forget()


def _target_there(transaction: Transaction, target_id: str) -> None:
    """The target must not be deleted meanwhile."""
    transaction.check("target", Target(TARGETS, target_id), Target.target_id.exists())


def _no_target() -> InvalidInput:
    return InvalidInput.field("target_id", "must be the id of a notification target")


def _members_validate(members: Mapping[str, Any]) -> dict[str, Any]:
    occasions = [str(occasion) for occasion in Occasion if occasion in set(members["occasions"])]
    if not occasions or len(occasions) != len(set(members["occasions"])):
        raise InvalidInput.field("occasions", f"must be one or several of {', '.join(Occasion)}")
    for field in ("pipelines", "branches"):
        patterns = members[field]
        if len(patterns) > MAX_PATTERNS or not all(_is_pattern(pattern) for pattern in patterns):
            raise InvalidInput.field(
                field, f"must be at most {MAX_PATTERNS} patterns of 1 to {MAX_PATTERN} characters in one line"
            )
    try:
        target_get(members["target_id"])
    except NotFound as error:
        raise _no_target() from error
    return {
        "target_id": members["target_id"],
        "pipelines": list(members["pipelines"]),
        "branches": list(members["branches"]),
        "occasions": occasions,
    }


def _is_pattern(pattern: str) -> bool:
    return 0 < len(pattern) <= MAX_PATTERN and pattern.isprintable()


def _described(rule: Rule) -> dict[str, Any]:
    """The rule for an audit event."""
    texts = {name: ", ".join(getattr(rule, name)) or "all" for name in ("pipelines", "branches", "occasions")}
    return {"target": str(rule.target_id), **texts}


def _audit(
    transaction: Transaction, rule: Rule, actor: Actor, action: Action, detail: Mapping[str, Any] | None
) -> None:
    audit_add(transaction, actor=actor, action=action, target=f"notification_rule:{rule.rule_id}", detail=detail)
