"""What GitHub has delivered to an app's webhook, and what of it has failed. GitHub knows that for three days.

https://docs.github.com/en/rest/apps/webhooks
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from apps.sources.models import Connection
from apps.sources.providers.github.app import app_call, app_pages
from apps.sources.providers.interface import MissedDelivery, WebhookRequest
from controlplane.lib import clock

_PER_PAGE = 100
# Statuses of deliveries that have arrived.
_ARRIVED = range(200, 400)


def missed_deliveries(connection: Connection, since: datetime) -> list[MissedDelivery]:
    """The deliveries since then of which no attempt has arrived, the oldest first.

    None for a connection without an app: only apps have such a list. Raises as `app_call`.
    """
    if not connection.app_id:
        return []
    arrived: set[str] = set()
    missed: dict[str, MissedDelivery] = {}
    for entry, at in _since(connection, since):
        delivery_id = str(entry.get("guid") or "")
        if entry.get("status_code") in _ARRIVED:
            arrived.add(delivery_id)
        elif delivery_id:
            # The list begins with the newest, so this ends with the first attempt.
            missed.pop(delivery_id, None)
            missed[delivery_id] = MissedDelivery(delivery_id, at, provider_id=str(entry.get("id")))
    return [one for one in reversed(missed.values()) if one.delivery_id not in arrived]


def delivery_request(connection: Connection, provider_id: str) -> WebhookRequest:
    """The request of a delivery, as GitHub has sent it. Its signature is not among what GitHub tells.

    Raises as `app_call`.
    """
    found = app_call(connection, "GET", f"/app/hook/deliveries/{int(provider_id)}")
    headers = found.member("request", "headers")
    named = {str(name).lower(): str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
    named.setdefault("x-github-delivery", str(found.member("guid")))
    named.setdefault("x-github-event", str(found.member("event")))
    # GitHub gives the payload as JSON, whatever it has sent.
    named["content-type"] = "application/json"
    return WebhookRequest(headers=named, body=json.dumps(found.member("request", "payload")).encode())


def _since(connection: Connection, since: datetime) -> Iterator[tuple[dict[str, Any], datetime]]:
    for entry in app_pages(connection, f"/app/hook/deliveries?per_page={_PER_PAGE}"):
        if not isinstance(entry, dict):
            continue
        try:
            at = clock.parse_timestamp(str(entry.get("delivered_at")))
        except ValueError:
            continue
        if at < since:
            return
        yield entry, at
