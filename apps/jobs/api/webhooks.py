"""``POST /webhooks/{provider}``: what GitHub, GitLab, Gitea and others tell. A plain Django view, for speed."""

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apps.jobs.services import event_work
from apps.sources.providers.interface import WebhookRequest
from apps.sources.services import WEBHOOK_LIMIT, delivery_accept
from apps.sources.states import DeliveryState, ProviderName
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.lib.errors import NotFound, Unavailable

logger = logging.getLogger(__name__)

# GitHub waits ten seconds for an answer; what takes longer than this is left to the sweep.
_AT_ONCE_SECONDS = 0.4


@documented("post", "apps.jobs.api.webhook_documentation.WEBHOOK")
@body_limit(WEBHOOK_LIMIT)
@csrf_exempt
@require_POST
def webhook(request: HttpRequest, provider: str) -> HttpResponse:
    """Take a delivery of a provider whose signature says which connection it is."""
    return _taken(request, provider, None)


@documented("post", "apps.jobs.api.webhook_documentation.CONNECTION_WEBHOOK")
@body_limit(WEBHOOK_LIMIT)
@csrf_exempt
@require_POST
def connection_webhook(request: HttpRequest, provider: str, connection_id: str) -> HttpResponse:
    """Take a delivery for a connection."""
    return _taken(request, provider, connection_id)


def _taken(request: HttpRequest, provider: str, connection_id: str | None) -> HttpResponse:
    if provider not in set(ProviderName):
        raise NotFound("There is no such provider.")
    headers = {name.lower(): value for name, value in request.headers.items()}
    delivery = delivery_accept(
        provider=ProviderName(provider),
        connection_id=connection_id,
        request=WebhookRequest(headers=headers, body=request.body),
    )
    if delivery.state == DeliveryState.PENDING:
        try:
            event_work(str(delivery.event_id), seconds=_AT_ONCE_SECONDS)
        except Unavailable as error:
            # It is stored, and the sweep works it off.
            logger.warning("The event %s is left to the sweep: %s", delivery.event_id, error.message)
    # What came of it may say what strangers shall not know, such as the names of pipelines.
    return JsonResponse({"event_id": delivery.event_id}, status=202)
