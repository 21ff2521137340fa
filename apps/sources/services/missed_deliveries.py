"""Taking in what a provider could not deliver, while the control plane or the way to it was away.

GitHub does not repeat a delivery that has failed. It lists them for three days, so each GitHub App is asked every few
minutes for those that have failed since the last time; each is stored as if it had come by itself, and then worked off.
"""

import logging
import time
from contextlib import suppress
from datetime import datetime, timedelta

from django.core.cache import cache

from apps.sources.models import Connection
from apps.sources.providers.interface import provider_of
from apps.sources.selectors import connection_list, delivery_find, delivery_key
from apps.sources.services.deliveries import delivery_add
from apps.sources.states import ProviderName
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError
from controlplane.nosql.connection import ConditionFailed

logger = logging.getLogger(__name__)

EVERY = timedelta(minutes=5)
# For so long GitHub knows deliveries.
KEPT = timedelta(days=3)
# An attempt may be listed late, and one that is under way is listed when it ends.
_OVERLAP = timedelta(minutes=10)
# While there is no app, a process looks for one no more often than apps are asked.
_NONE_KEY = "missed-deliveries-no-app"


def deliveries_reconcile(*, seconds: float) -> int:
    """Take in the missed deliveries of all GitHub Apps that were not asked for five minutes. Returns how many.

    One query if none is due, and mostly none if there is no app. It begins nothing after `seconds`: the rest waits for
    the next time. A provider that does not answer is asked again the next time, for the same span.
    """
    if cache.get(_NONE_KEY):
        return 0
    ends_at = time.monotonic() + seconds
    taken = 0
    apps = [connection for connection in connection_list(ProviderName.GITHUB) if connection.app_id]
    if not apps:
        cache.set(_NONE_KEY, True, EVERY.total_seconds())
    for connection in apps:
        if time.monotonic() >= ends_at:
            break
        if not _begin(connection):
            continue
        try:
            taken += _reconcile(connection, ends_at)
        except ApplicationError as error:
            logger.warning("Missed deliveries of %s are not known: %s", connection.connection_id, error.message)
    return taken


def _begin(connection: Connection) -> bool:
    """Whether it is this process's turn to ask for this connection's deliveries."""
    now, began = clock.now(), connection.reconcile_began_at
    if began and clock.parse_timestamp(began) > now - EVERY:
        return False
    attribute = Connection.reconcile_began_at
    unchanged = attribute == began if began else attribute.does_not_exist()
    try:
        connection.update([attribute.set(clock.timestamp(now))], condition=Connection.provider.exists() & unchanged)
    except ConditionFailed:
        return False
    return True


def _reconcile(connection: Connection, ends_at: float) -> int:
    began = clock.now()
    functions = provider_of(connection.provider)
    taken = 0
    for missed in functions.missed_deliveries(connection, _since(connection, began)):
        if delivery_find(delivery_key(str(connection.connection_id), missed.delivery_id)) is not None:
            # It has arrived, and only the answer was lost.
            continue
        if time.monotonic() >= ends_at:
            return taken
        delivery_add(connection=connection, request=functions.delivery_request(connection, missed.provider_id))
        taken += 1
    # Unless it was deleted meanwhile.
    with suppress(ConditionFailed):
        connection.update(
            [Connection.reconciled_until.set(clock.timestamp(began))], condition=Connection.provider.exists()
        )
    return taken


def _since(connection: Connection, now: datetime) -> datetime:
    known = clock.parse_timestamp(connection.reconciled_until or connection.created_at)
    return max(known - _OVERLAP, now - KEPT)
