"""The compliance reports that there are."""

from collections.abc import Mapping
from typing import Any

from apps.accounts.policies import ROLES
from apps.accounts.selectors import api_token_list, users_active
from apps.agents.selectors import fleet_counts, heartbeats_get
from apps.agents.selectors.agents import agents_by_region
from apps.audit.actions import Action
from apps.audit.selectors.trail import last_act_at
from apps.dashboard.selectors.report_deployments import DEPLOYMENTS
from apps.dashboard.selectors.report_integrity import INTEGRITY
from apps.dashboard.selectors.report_rotations import ROTATIONS
from apps.dashboard.selectors.reports import (
    Contents,
    Kind,
    Period,
    Row,
    by_day,
    changed_to,
    columns,
    days_between,
    events_of,
    identifier,
    left_out,
    who,
)
from controlplane.lib.batches import batched

# Of so many users, the report asks when they and their API tokens were last active: two queries each.
_LAST_USES = 500


def _sign_ins(period: Period) -> Contents:
    rows: list[Row] = []
    for record in events_of(period, [Action.USER_SIGN_IN_FAILED]):
        detail = dict(record.detail or {})
        rest = {name: value for name, value in detail.items() if name not in ("address", "provider", "reason")}
        target = identifier(record) if str(record.target).startswith("email:") else str(record.target)
        rows.append(
            (
                str(record.at),
                target,
                detail.get("address"),
                detail.get("provider"),
                detail.get("reason"),
                _in_words(rest),
            )
        )
    return Contents(
        rows,
        "Sign-ins that were refused, by password or provider, of known and unknown addresses",
        chart="Failed sign-ins by day",
        days=by_day(period, failed=(row[0] for row in rows)),
        outcomes=("failed",),
    )


_SETTINGS = (
    Action.AGENT_CONFIGURED,
    Action.AUDIT_HOLD_PLACED,
    Action.AUDIT_HOLD_RELEASED,
    Action.CONNECTION_CHANGED,
    Action.CONNECTION_CREATED,
    Action.CONNECTION_DELETED,
    Action.CONNECTION_INSTALLATION_CHANGED,
    Action.CONNECTION_WEBHOOK_SECRET_ROTATED,
    Action.ENROLMENT_TOKEN_CREATED,
    Action.ENROLMENT_TOKEN_REVOKED,
    Action.ENVIRONMENT_CHANGED,
    Action.ENVIRONMENT_CREATED,
    Action.ENVIRONMENT_DELETED,
    Action.INVITATION_CREATED,
    Action.INVITATION_REVOKED,
    Action.NOTIFICATION_RULE_CHANGED,
    Action.NOTIFICATION_RULE_CREATED,
    Action.NOTIFICATION_RULE_DELETED,
    Action.NOTIFICATION_TARGET_CHANGED,
    Action.NOTIFICATION_TARGET_CREATED,
    Action.NOTIFICATION_TARGET_DELETED,
    Action.NOTIFICATION_TARGET_SECRET_ROTATED,
    Action.PIPELINE_DELETED,
    Action.PIPELINE_PAUSED,
    Action.PIPELINE_RESUMED,
    Action.PIPELINE_SAVED,
    Action.SCHEDULE_CHANGED,
    Action.SCHEDULE_CREATED,
    Action.SCHEDULE_DELETED,
    Action.SCHEDULE_PAUSED,
    Action.SCHEDULE_RESUMED,
    Action.SECRET_CHANGED,
    Action.SECRET_CREATED,
    Action.SECRET_DELETED,
    Action.SECRET_ROTATION_CONFIGURED,
    Action.SECRET_VERSION_ADDED,
    Action.USER_CHANGED,
    Action.USER_DELETED,
    Action.USER_DISABLED,
)


def _settings(period: Period) -> Contents:
    rows: list[Row] = [
        (
            str(record.at),
            who(record),
            str(record.action),
            str(record.target),
            str(record.result),
            _in_words(record.detail),
        )
        for record in events_of(period, _SETTINGS)
        if not (record.action == Action.SECRET_VERSION_ADDED and (record.detail or {}).get("rotation"))
    ]
    return Contents(
        rows,
        "Pipelines, their schedules, environments, connections, targets and rules of notifications, agents, enrolment "
        "tokens, invitations, users' roles, secrets, their rotation, and legal holds",
        (
            "New values that rotations have made are in the report “Rotation compliance”.",
            "The control plane's own settings are environment variables of its deployment, which the trail lacks.",
        ),
    )


def _access(period: Period) -> Contents:
    people, tokens = _people(period), _tokens(period)
    for token in tokens.values():
        owner = people.get(token["owner"], {})
        token["owner"] = owner.get("name", token["owner"])
        if owner.get("ended_at") and not token["ended_at"]:
            token["state"], token["ended_at"] = "ended with its user", owner["ended_at"]
    last_used = {
        str(token.token_id): str(token.last_used_at or "")
        for user_id in list(people)[:_LAST_USES]
        for token in api_token_list(user_id)
    }
    rows: list[Row] = []
    for number, (user_id, person) in enumerate(people.items()):
        last_act = last_act_at(f"user:{user_id}", before=period.until) if number < _LAST_USES else None
        rows.append(_access_row("user", user_id, person, last_act, period))
    rows += [_access_row("API token", key, token, last_used.get(key), period) for key, token in tokens.items()]
    notes = [
        "“Last use” is a user's last recorded act before the end of the period, and a token's last use until today.",
        "A token's last use is to the hour: it may have been used up to an hour later.",
    ]
    if len(people) > _LAST_USES:
        notes.append(f"The last use is given of the first {_LAST_USES} users and their tokens only.")
    active = {user.user_id: str(user.email) for user in users_active(ROLES) if user.created_at < period.until}
    notes += left_out("users", (active[user_id] for user_id in active.keys() - people.keys()))
    kept = [row for row in rows if not row[8] or str(row[8]) >= period.since]
    return Contents(kept, "Every user and API token that existed at some time of the period", tuple(notes))


def _access_row(kind: str, key: str, found: Mapping[str, Any], last: str | None, period: Period) -> Row:
    state = found["state"]
    if state == "active" and found.get("expires_at") and str(found["expires_at"]) < period.until:
        state = "expired"
    return (
        *(kind, key, found["name"], found.get("owner", ""), found["access"], state),
        *(found["created_at"], found["created_by"], found["ended_at"], last),
    )


def _people(period: Period) -> dict[str, dict[str, Any]]:
    """The users at the end of the period by id, oldest first, deleted ones too."""
    people: dict[str, dict[str, Any]] = {}
    inviters: dict[str, str] = {}
    actions = (Action.USER_CREATED, Action.USER_CHANGED, Action.USER_DISABLED, Action.USER_DELETED)
    for record in events_of(period, (Action.INVITATION_CREATED, *actions), from_beginning=True):
        detail = dict(record.detail or {})
        if record.action == Action.INVITATION_CREATED:
            inviters[identifier(record)] = who(record)
            continue
        person = people.setdefault(
            identifier(record),
            {
                "name": detail.get("email", ""),
                "access": detail.get("role", ""),
                "state": "active",
                "created_at": str(record.at),
                "created_by": _creator(record, detail, inviters),
                "ended_at": "",
            },
        )
        _person_follow(person, record, detail)
    return people


def _creator(record: Any, detail: Mapping[str, Any], inviters: Mapping[str, str]) -> str:
    """Who admitted a user: of an invited one, the inviter, since it is the user who accepts."""
    invitation = detail.get("invitation")
    return inviters.get(invitation, f"invitation {invitation}") if invitation else who(record)


def _person_follow(person: dict[str, Any], record: Any, detail: Mapping[str, Any]) -> None:
    """Change what is known of a user by what an event says."""
    person["access"] = changed_to(detail.get("role", person["access"]))
    if record.action == Action.USER_DISABLED:
        person["state"] = "disabled"
    elif record.action == Action.USER_DELETED:
        person["state"], person["ended_at"] = "deleted", str(record.at)
    elif "is_active" in detail:
        person["state"] = "active" if changed_to(detail["is_active"]) == "True" else "disabled"


def _tokens(period: Period) -> dict[str, dict[str, Any]]:
    """The API tokens at the end of the period by id, oldest first, revoked ones too."""
    tokens: dict[str, dict[str, Any]] = {}
    for record in events_of(period, (Action.API_TOKEN_CREATED, Action.API_TOKEN_REVOKED), from_beginning=True):
        detail = dict(record.detail or {})
        if record.action == Action.API_TOKEN_CREATED:
            tokens[identifier(record)] = {
                "name": detail.get("name", ""),
                "owner": detail.get("owner", ""),
                "access": detail.get("permissions", ""),
                "state": "active",
                "expires_at": detail.get("expires_at"),
                "created_at": str(record.at),
                "created_by": who(record),
                "ended_at": "",
            }
        elif identifier(record) in tokens:
            tokens[identifier(record)] |= {"state": "revoked", "ended_at": str(record.at)}
    return tokens


def _agents(period: Period) -> Contents:
    agents: dict[str, dict[str, Any]] = {}
    actions = (Action.AGENT_ENROLLED, Action.AGENT_KEY_ROTATED, Action.AGENT_DELETED)
    for record in events_of(period, actions, from_beginning=True):
        detail = dict(record.detail or {})
        found = agents.setdefault(identifier(record), {"ended_at": "", "key": "from enrolment"})
        if record.action == Action.AGENT_ENROLLED:
            found |= {
                "name": str(record.actor_name),
                "region": detail.get("region"),
                "enrolled_at": str(record.at),
                "token": detail.get("token"),
                "key_at": str(record.at),
            }
        elif record.action == Action.AGENT_KEY_ROTATED:
            found |= {"key": detail.get("key_id"), "key_at": str(record.at)}
        else:
            found |= {"name": detail.get("name") or found.get("name"), "ended_at": str(record.at)}
    kept = {key: found for key, found in agents.items() if not found["ended_at"] or found["ended_at"] >= period.since}
    today = {str(agent.agent_id): agent for batch in agents_by_region(sorted(fleet_counts())) for agent in batch}
    unknown = (str(agent.name) for key, agent in today.items() if key not in agents and agent.created_at < period.until)
    heard = {
        agent_id: str(heartbeat.at)
        for batch in batched(kept, 100)
        for agent_id, heartbeat in heartbeats_get(batch).items()
    }
    rows: list[Row] = [
        (
            *(key, found.get("name"), found.get("region"), found.get("enrolled_at"), found.get("token")),
            *(found["key"], found.get("key_at"), days_between(found.get("key_at"), period.until)),
            *(found["ended_at"], str(today[key].status) if key in today else "deleted", heard.get(key)),
        )
        for key, found in kept.items()
    ]
    return Contents(
        rows,
        "Every agent that was enrolled at some time of the period",
        (
            "A key's age is that at the end of the period. Status and last heartbeat are those of today.",
            *left_out("agents", unknown),
        ),
    )


def _in_words(detail: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (detail or {}).items() if value not in (None, ""))


KINDS = {
    kind.name: kind
    for kind in (
        DEPLOYMENTS,
        Kind(
            "access",
            "Access review",
            "Users and API tokens, what they may do, and their last use. It can be signed off.",
            columns(
                *("Kind", "Id", "Name", "Owner", "Access", "State", "Created", "Created by", "Ended"),
                today=("Last use (of tokens: to the hour)",),
            ),
            _access,
            signed_off=True,
        ),
        ROTATIONS,
        Kind(
            "agents",
            "Agents and their identities",
            "Which machines can run jobs, by which keys, and how old these are.",
            columns(
                *(
                    "Id",
                    "Name",
                    "Region",
                    "Enrolled",
                    "Enrolment token",
                    "Key",
                    "Key since",
                    "Key age in days",
                    "Ended",
                ),
                today=("Status", "Last heartbeat"),
            ),
            _agents,
        ),
        Kind(
            "sign-ins",
            "Failed sign-ins",
            "Every refused sign-in, with the address that it came from.",
            columns("Time", "Who", "Address", "Provider", "Reason", "More"),
            _sign_ins,
        ),
        Kind(
            "settings",
            "Changes of settings",
            "Changes of pipelines, schedules, environments, connections, notifications, agents, roles, secrets, legal "
            "holds and what admits users and agents.",
            columns("Time", "Who", "Action", "Target", "Result", "Change"),
            _settings,
        ),
        INTEGRITY,
    )
}
