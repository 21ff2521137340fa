"""Sending a message to a target: one attempt, which ends within seconds."""

import json
import re
import smtplib
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from apps.notifications.senders.addresses import Address
from apps.notifications.senders.forms import mail_texts, slack_body, teams_body, webhook_body
from apps.notifications.senders.messages import Message, shortened
from apps.notifications.states import TargetKind
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.lib.outgoing import OutgoingFailed, OutgoingRefused, outgoing_post
from controlplane.lib.webhook_signature import webhook_headers

# For one attempt, of the time that the sweep has.
SEND_SECONDS = 5
EXCERPT_CHARACTERS = 200
# The answers that say that the message is wrong, so that the same one will never be accepted.
_REJECTS = frozenset({400, 405, 413, 415, 422})
# The receiver is gone and wants no more: https://www.standardwebhooks.com, "Operational considerations".
_GONE = 410


@frozen
class Sent:
    """What became of an attempt. `problem` is None if the target accepted the message.

    `excerpt` is the beginning of its answer, without secrets. `retry_after` is in seconds, as the target asks for.
    With `is_rejected` the target answers, but does not want this message.
    """

    status: int | None = None
    problem: str | None = None
    excerpt: str = ""
    retry_after: int | None = None
    is_rejected: bool = False


def message_send(kind: TargetKind, address: Address, message: Message, *, message_id: str) -> Sent:
    """Send the message once. It raises nothing that depends on the target."""
    if kind == TargetKind.EMAIL:
        return _mail(address, message, message_id)
    if kind == TargetKind.WEBHOOK:
        body = _json(webhook_body(message))
        now = clock.epoch()
        headers = webhook_headers(secrets=address.secrets, message_id=message_id, timestamp=now, body=body)
        return _post(address, body, headers)
    return _post(address, _json(slack_body(message) if kind == TargetKind.SLACK else teams_body(message)), {})


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _post(address: Address, body: bytes, headers: Mapping[str, str]) -> Sent:
    try:
        answer = outgoing_post(address.url, body, {"Content-Type": "application/json", **headers}, seconds=SEND_SECONDS)
    except (OutgoingFailed, OutgoingRefused) as error:
        return Sent(problem=str(error))
    excerpt = excerpt_of(answer.body, address)
    if 200 <= answer.status < 300:
        return Sent(answer.status, None, excerpt)
    return Sent(
        answer.status,
        f"it answers with {answer.status}",
        excerpt,
        retry_after=answer.retry_after,
        is_rejected=answer.status in _REJECTS or answer.status == _GONE,
    )


def excerpt_of(body: bytes, address: Address) -> str:
    """The beginning of an answer in one line, without what is secret of the address."""
    text = body[: 8 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
    for secret in address.hidden:
        text = re.sub(re.escape(secret), "[hidden]", text, flags=re.IGNORECASE)
    return shortened(text, EXCERPT_CHARACTERS)


def _mail(address: Address, message: Message, message_id: str) -> Sent:
    if not settings.EMAIL_URL:
        return Sent(problem="EMAIL_URL is not set, so no e-mail can be sent")
    # Few processes send e-mail.
    from django.core.mail import EmailMultiAlternatives

    texts = mail_texts(message)
    mail = EmailMultiAlternatives(
        subject=texts["subject"],
        body=texts["text"],
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=list(address.emails),
        # RFC 3834: no automatic answers, please. The same message twice is one in most mailboxes.
        headers={"Auto-Submitted": "auto-generated", "Message-ID": f"<{message_id}@{_mail_domain()}>"},
    )
    mail.attach_alternative(texts["html"], "text/html")
    try:
        mail.send()
    except smtplib.SMTPResponseException as error:
        return Sent(error.smtp_code, f"the mail server answers with {error.smtp_code}")
    except (OSError, smtplib.SMTPException) as error:
        return Sent(problem=f"the mail server does not accept it: {type(error).__name__}")
    return Sent()


def _mail_domain() -> str:
    return settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">") or "localhost"
