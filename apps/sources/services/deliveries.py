"""Accepting what providers deliver: verified first, then written once; and noting what came of it.

Nothing of a request that no provider has signed is stored, but that there was one: at most once a minute for each
connection. So strangers can neither fill the list of deliveries nor hide what a provider sends. No rate limit stands
before the signature, since a stranger could use it up, or share an address with the provider.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.sources.models import DUE, Connection, Delivery
from apps.sources.policies import event_redeliver_require
from apps.sources.providers.github.inbound import app_of
from apps.sources.providers.interface import (
    Provider,
    SourceEvent,
    WebhookRequest,
    event_as_json,
    provider_of,
)
from apps.sources.providers.payloads import signature_invalid, signature_missing
from apps.sources.selectors import (
    KEPT_DAYS,
    connection_find,
    connection_list,
    delivery_find,
    delivery_get,
    delivery_key,
    delivery_month,
)
from apps.sources.states import TROUBLE, DeliveryState, EventKind, ProviderName
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput
from controlplane.nosql.connection import ConditionFailed
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)

# The most bytes of a webhook. GitHub sends up to 25 MB, but a function on Lambda gets 6 MB with all that surrounds it.
WEBHOOK_LIMIT = 4_000_000

# The request that has brought a delivery works it off for so long before the sweep does, too.
_OWN_SECONDS = 20
_REFUSED_NOTE_EVERY = timedelta(minutes=1)
# After failures that pass, a delivery is tried again later and later, and for a day in all.
_FIRST_WAIT, _LONGEST_WAIT, _TRIED_FOR = timedelta(seconds=15), timedelta(minutes=15), timedelta(hours=24)
_MOST_CANDIDATES = 10
_MAX_ID = 200
_MAX_REASON = 500


def delivery_accept(*, provider: ProviderName, connection_id: str | None, request: WebhookRequest) -> Delivery:
    """Verify the request and store what it says; returns its record, which may be that of an earlier delivery.

    Without `connection_id`, the signature says which connection of the provider it is. A delivery that cannot be read
    is stored as refused. One read and one write. Raises Forbidden, the same for a connection that does not exist
    and for a wrong signature; and Unavailable.
    """
    functions = provider_of(provider)
    if not any(request.headers.get(name) for name in functions.SIGNATURES):
        # It costs no read.
        raise signature_missing(functions.SIGNATURES[0])
    connection = _verified(functions, _candidates(provider, connection_id, request), request)
    return _store(connection, functions, request)


def delivery_add(*, connection: Connection, request: WebhookRequest) -> Delivery:
    """Store a delivery that we have fetched from the provider's API ourselves, which needs no signature."""
    return _store(connection, provider_of(connection.provider), request)


def _candidates(provider: ProviderName, connection_id: str | None, request: WebhookRequest) -> list[Connection]:
    """The connections that the request may belong to. One read."""
    if connection_id is not None:
        found = connection_find(connection_id)
        return [found] if found is not None and found.provider == provider else []
    # Only GitHub has Apps, which have one webhook for all of their repositories.
    app_id = app_of(request) if provider == ProviderName.GITHUB else None
    possible = [one for one in connection_list(provider) if app_id is None or one.app_id == app_id]
    # A stranger's four megabytes shall not be hashed with many secrets. Each connection has an address of its own.
    return possible[:_MOST_CANDIDATES]


def _verified(functions: Provider, candidates: Sequence[Connection], request: WebhookRequest) -> Connection:
    """The connection whose secret has signed the request. Raises Forbidden."""
    refusal = signature_invalid()
    for connection in candidates:
        try:
            functions.verify(connection, request)
        except Forbidden as error:
            refusal = error
            continue
        return connection
    if len(candidates) == 1:
        _refusal_note(candidates[0], refusal.message)
    raise refusal


def _refusal_note(connection: Connection, reason: str) -> None:
    """Note that a request was refused, at most once a minute: the secret at the provider may be a wrong one."""
    now = clock.now()
    if connection.refused_at and clock.parse_timestamp(connection.refused_at) > now - _REFUSED_NOTE_EVERY:
        return
    before = Connection.refused_at
    unchanged = before == connection.refused_at if connection.refused_at else before.does_not_exist()
    with suppress(ConditionFailed):
        connection.update(
            actions=[
                Connection.refused_at.set(clock.timestamp(now)),
                Connection.refused_because.set(reason[:_MAX_REASON]),
            ],
            condition=Connection.provider.exists() & unchanged,
        )


def _store(connection: Connection, functions: Provider, request: WebhookRequest) -> Delivery:
    delivery_id = functions.delivery_id(request) or hashlib.sha256(request.body).hexdigest()
    event_id = delivery_key(str(connection.connection_id), delivery_id)
    moment = clock.now()
    now = clock.timestamp(moment)
    delivery = Delivery(
        event_id,
        connection_id=connection.connection_id,
        provider=connection.provider,
        delivery_id=_printable(delivery_id),
        kind="",
        events=[],
        received_at=now,
        accepted_at=now,
        state=DeliveryState.DONE.value,
        month=delivery_month(str(connection.connection_id), moment),
        expires_at=moment + timedelta(days=KEPT_DAYS),
    )
    try:
        events = functions.events(request)
        delivery.kind = _printable(functions.kind_of(request))
        _events_set(delivery, events)
    except InvalidInput as error:
        delivery.state, delivery.reason = DeliveryState.REFUSED.value, error.message[:_MAX_REASON]
        delivery.trouble = delivery.month
    try:
        delivery.save(condition=Delivery.event_id.does_not_exist())
    except ConditionFailed:
        return _repeated(delivery)
    return delivery


def _printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable())[:_MAX_ID]


def _events_set(delivery: Delivery, events: Sequence[SourceEvent]) -> None:
    delivery.events = [event_as_json(event) for event in events]
    if not events:
        delivery.reason = "Events of this kind start no runs."
        return
    delivery.repository, delivery.summary = events[0].repository or None, event_words(events[0])
    delivery.state = DeliveryState.PENDING.value
    delivery.due = DUE
    delivery.due_at = clock.timestamp(clock.now() + timedelta(seconds=_OWN_SECONDS))


def event_words(event: SourceEvent) -> str:
    """What has happened, in words: ``push to main``, ``pull request #7 opened``."""
    match event.kind:
        case EventKind.PUSH | EventKind.TAG:
            what = f"tag {event.tag}" if event.tag is not None else event.branch
            return f"{what} deleted" if event.action == "deleted" else f"push to {what}" if event.branch else str(what)
        case EventKind.PULL_REQUEST:
            return f"pull request #{event.number} {event.action}{' from a fork' if event.is_fork else ''}"
        case EventKind.CHECK_RERUN:
            return f"check {event.title or 'suite'} is to run again"
        case EventKind.REPOSITORY_RENAMED:
            return f"renamed from {event.old_repository}"
        case EventKind.INSTALLATION:
            return f"installation {event.action}"


def _repeated(delivery: Delivery) -> Delivery:
    """The record of the same delivery, which came before. One that was refused or has failed begins anew."""
    counted = Delivery.repetitions.add(1)
    try:
        if delivery.state != DeliveryState.PENDING:
            raise ConditionFailed
        again = Delivery.state.is_in(*(state.value for state in TROUBLE))
        delivery.update(actions=[counted, *_anew(delivery)], condition=again)
    except ConditionFailed:
        with suppress(ConditionFailed):
            delivery.update(actions=[counted], condition=Delivery.state.exists())
    return delivery_find(str(delivery.event_id)) or delivery


def _anew(delivery: Delivery) -> list[Any]:
    """The changes by which a delivery is to be worked off anew, with the events of `delivery`."""
    now = clock.now()
    return [
        Delivery.events.set(delivery.events),
        Delivery.kind.set(delivery.kind),
        *([Delivery.repository.set(delivery.repository)] if delivery.repository else []),
        *([Delivery.summary.set(delivery.summary)] if delivery.summary else []),
        Delivery.state.set(DeliveryState.PENDING.value),
        Delivery.reason.remove(),
        Delivery.trouble.remove(),
        Delivery.results.remove(),
        Delivery.noted.remove(),
        Delivery.attempts.set(0),
        Delivery.generation.add(1),
        Delivery.accepted_at.set(clock.timestamp(now)),
        Delivery.due.set(DUE),
        Delivery.due_at.set(clock.timestamp(now + timedelta(seconds=_OWN_SECONDS))),
    ]


def delivery_redeliver(*, actor: Actor, connection_id: str, event_id: str) -> Delivery:
    """Work the event off once more: `apps.jobs.services.event_starts` does. One that is pending stays so.

    For a pipeline that has a run of it already, another one starts. Raises Forbidden, NotFound, and Conflict with the
    code ``delivery_unreadable`` for one of which nothing could be read.
    """
    event_redeliver_require(actor)
    delivery = delivery_get(connection_id, event_id)
    if delivery.state == DeliveryState.PENDING:
        return delivery
    if not delivery.events:
        raise Conflict(
            "Nothing of this event is stored. Send it again from the provider's page.",
            code=ErrorCode.DELIVERY_UNREADABLE,
        )
    transaction = Transaction()
    unchanged = (Delivery.generation == delivery.generation) & (Delivery.state == delivery.state)
    transaction.update("delivery", delivery, actions=_anew(delivery), condition=unchanged)
    audit_add(
        transaction,
        actor=actor,
        action=Action.CONNECTION_EVENT_REDELIVERED,
        target=f"connection:{connection_id}",
        detail={"event": event_id, "summary": delivery.summary, "repository": delivery.repository},
    )
    # Otherwise another user has done the same at this moment.
    with suppress(TransactionFailed):
        transaction.commit()
    return delivery_get(connection_id, event_id)


def delivery_end(
    delivery: Delivery, *, state: DeliveryState, reason: str | None, results: Sequence[Mapping[str, Any]]
) -> None:
    """Note what came of a delivery. If it was begun anew or ended meanwhile, nothing happens."""
    said = reason[:_MAX_REASON] if reason else None
    with suppress(ConditionFailed):
        delivery.update(
            actions=[
                Delivery.state.set(state.value),
                Delivery.reason.set(said) if said else Delivery.reason.remove(),
                Delivery.results.set([dict(one) for one in results]),
                Delivery.trouble.set(delivery.month) if state in TROUBLE else Delivery.trouble.remove(),
                Delivery.due.remove(),
                Delivery.due_at.remove(),
                Delivery.attempts.add(1),
            ],
            condition=_still(delivery),
        )


def delivery_put_off(delivery: Delivery, *, reason: str | None, results: Sequence[Mapping[str, Any]]) -> None:
    """Try a delivery again later, since something is not available; after a day it has failed.

    Without a reason, only the time was over: the next sweep goes on with it.
    """
    accepted = clock.parse_timestamp(delivery.accepted_at)
    now, attempts = clock.now(), int(delivery.attempts)
    if reason and now - accepted > _TRIED_FOR:
        delivery_end(delivery, state=DeliveryState.FAILED, reason=reason, results=results)
        return
    wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempts, 10)) if reason else timedelta(0)
    with suppress(ConditionFailed):
        delivery.update(
            actions=[
                Delivery.reason.set(reason[:_MAX_REASON]) if reason else Delivery.reason.remove(),
                Delivery.results.set([dict(one) for one in results]),
                Delivery.attempts.add(1),
                Delivery.due_at.set(clock.timestamp(now + wait)),
            ],
            condition=_still(delivery),
        )


def _still(delivery: Delivery) -> Any:
    return (Delivery.generation == delivery.generation) & (Delivery.state == DeliveryState.PENDING.value)


def installation_note(delivery: Delivery, *, event: SourceEvent, actor: Actor) -> None:
    """Record once that an installation of the connection's App was made, changed or removed."""
    transaction = Transaction()
    transaction.update(
        "delivery",
        delivery,
        actions=[Delivery.noted.set(True)],
        condition=_still(delivery) & Delivery.noted.does_not_exist(),
    )
    audit_add(
        transaction,
        actor=actor,
        action=Action.CONNECTION_INSTALLATION_CHANGED,
        target=f"connection:{delivery.connection_id}",
        detail={
            "installation": event.installation_id,
            "account": event.title,
            "action": event.action,
            "added": ", ".join(event.repositories_added),
            "removed": ", ".join(event.repositories_removed),
        },
    )
    # Otherwise it is recorded already.
    with suppress(TransactionFailed):
        transaction.commit()
