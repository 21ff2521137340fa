"""Messages in the form of each kind of target: short, with a link, and safe from the texts of strangers."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core import mail

from apps.notifications.selectors.targets import Target
from apps.notifications.senders.addresses import Address
from apps.notifications.senders.forms import mail_texts, slack_body, teams_body
from apps.notifications.senders.messages import Message, inert, shortened
from apps.notifications.senders.sending import excerpt_of
from apps.notifications.services import target_create, target_secret_rotate
from apps.notifications.states import TargetKind
from tests.conftest import OPERATOR
from tests.notifications.conftest import deliveries, happen, message, rule_made, sweep, target_made
from tests.webhooks import Received, Receiver

PAGE = (Path(settings.BASE_DIR) / "docs/notifications.md").read_text()
HOSTILE = (
    "<!channel> @channel @here <@U123> *bold* `code` [click](https://evil.example) https://evil.example "
    "www.evil.example <a href='https://evil.example'>x</a>\r\nBcc: eve@evil.example\n\n"
    "<script>alert(1)</script> \u202egnp.exe\x00\x1b[31m"
)


def hostile() -> Message:
    return message(subject=HOSTILE, facts=[("Started by", HOSTILE)], data={"git_ref": HOSTILE})


def texts(value: Any) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def verify(request: Received, secret: str) -> bool:
    """Whether the recipe of docs/notifications.md accepts it."""
    recipe: dict[str, Any] = {}
    exec(PAGE[PAGE.index("```python") + 9 :].partition("```")[0], recipe)
    try:
        recipe["verify"](secret, request.headers, request.body)
    except ValueError:
        return False
    return True


def test_a_webhook_is_signed_as_standard_webhooks_has_it_and_by_both_secrets_in_the_overlap(hook: Receiver) -> None:
    target, old = target_create(actor=OPERATOR, name="hook", kind=TargetKind.WEBHOOK, url=hook.url)
    rule_made(target)
    happen(1)
    sweep()
    _, new = target_secret_rotate(actor=OPERATOR, target_id=str(target.target_id))
    happen(2)
    sweep()
    first, second = hook.requests
    assert (verify(first, str(old)), verify(first, new)) == (True, False)
    assert (verify(second, str(old)), verify(second, new)) == (True, True)
    assert json.loads(first.body) == {
        "type": "run.failed",
        "timestamp": "2026-11-27T06:00:00.001000Z",
        "data": {"number": 1, "url": "https://ci.example.com/dashboard/runs/1", "stage": "test"},
    }
    assert not verify(Received(first.path, first.headers, first.body + b" "), str(old))


def test_a_webhook_has_the_texts_of_strangers_as_they_are() -> None:
    assert Message.of_json(json.loads(json.dumps(hostile().as_json()))).data == {"git_ref": HOSTILE}


def test_slack_gets_a_short_message_with_a_link(hook: Receiver) -> None:
    rule_made(target_made(hook, TargetKind.SLACK, "/slack"))
    happen()
    sweep()
    body = json.loads(hook.requests[0].body)
    assert body["text"].splitlines() == [
        "✘ *Failed*: self on main",
        "Started by: Ada",
        "<https://ci.example.com/dashboard/runs/1|Open the run>",
    ]
    assert (body["link_names"], body["parse"]) == (False, "none")


def test_no_text_of_a_stranger_notifies_a_channel_or_makes_a_link_in_slack_and_what_is_like_it() -> None:
    body = slack_body(hostile())
    ours = "<https://ci.example.com/dashboard/runs/1|Open the run>"
    for text in texts(body):
        rest = text.replace(ours, "")
        assert "https://" not in rest
        assert "www.evil" not in rest
        assert "](" not in rest
        assert not any(f"@{word}" in rest for word in ("channel", "here", "U123", "evil"))
    # Slack reads only these characters in a text with marks, and none in a plain one.
    assert "<" not in body["text"].replace(ours, "")
    marked = [block["text"] for block in body["blocks"] if block["type"] == "section" and "text" in block]
    assert marked == [{"type": "mrkdwn", "text": ours, "verbatim": True}]
    assert body["text"].count("\n") == 2


def test_teams_gets_an_adaptive_card(hook: Receiver) -> None:
    rule_made(target_made(hook, TargetKind.TEAMS, "/teams"))
    happen()
    hook.answer = lambda _request: (202, {})
    sweep()
    body = json.loads(hook.requests[0].body)
    (attachment,) = body["attachments"]
    assert (body["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert [block["inlines"][0]["text"] for block in card["body"]] == ["✘ Failed: self on main", "Started by: Ada"]
    assert card["actions"][0]["url"] == "https://ci.example.com/dashboard/runs/1"
    assert [delivery.state for delivery in deliveries()] == ["delivered"]


def test_no_text_of_a_stranger_is_read_as_markdown_by_teams() -> None:
    card = teams_body(hostile())["attachments"][0]["content"]
    for block in card["body"]:
        assert (block["type"], block["inlines"][0]["type"]) == ("RichTextBlock", "TextRun")
        assert "https://" not in block["inlines"][0]["text"]
        assert "\n" not in block["inlines"][0]["text"]


@pytest.fixture
def mailing(settings: Any, tables: None) -> Target:
    """A target with two addresses, and a mail server that keeps what it gets."""
    settings.EMAIL_URL = "smtp://mail.example.com:25"
    settings.DEFAULT_FROM_EMAIL = "CI <ci@example.com>"
    emails = ["ada@example.com", "grace@example.com"]
    target = target_create(actor=OPERATOR, name="mail", kind=TargetKind.EMAIL, emails=emails)[0]
    rule_made(target)
    return target


def test_an_e_mail_has_text_and_html_and_goes_to_all_addresses(mailing: Target) -> None:
    happen()
    sweep()
    (sent,) = mail.outbox
    assert (sent.subject, sent.to) == ("[test] Failed: self on main", ["ada@example.com", "grace@example.com"])
    assert sent.body.splitlines() == [
        "Failed: self on main",
        "",
        "Started by: Ada",
        "",
        "Open the run: https://ci.example.com/dashboard/runs/1",
    ]
    assert isinstance(sent, mail.EmailMultiAlternatives)
    html = str(sent.alternatives[0][0])
    assert '<a href="https://ci.example.com/dashboard/runs/1">Open the run</a>' in html
    (delivery,) = deliveries(mailing)
    raw = sent.message()
    assert raw["Message-ID"] == f"<{delivery.message_id}@example.com>"
    assert raw["Auto-Submitted"] == "auto-generated"


def test_no_text_of_a_stranger_adds_a_header_or_a_tag_to_an_e_mail(mailing: Target) -> None:
    from apps.notifications.senders.sending import message_send

    sent = message_send(TargetKind.EMAIL, Address(emails=["ada@example.com"]), hostile(), message_id="msg_1")
    assert sent.problem is None
    (one,) = mail.outbox
    raw = one.message()
    assert raw["Bcc"] is None
    assert set(raw.keys()) >= {"Subject", "From", "To"}
    assert one.recipients() == ["ada@example.com"]
    html = mail_texts(hostile())["html"]
    assert "<script" not in html
    assert html.count("<a ") == html.count("https://") == 1
    # One line for the title, one for each fact, and the link.
    assert len(mail_texts(hostile())["text"].splitlines()) == 5


def test_without_a_mail_server_a_delivery_says_what_to_do(mailing: Target, settings: Any) -> None:
    settings.EMAIL_URL = ""
    happen()
    sweep()
    assert deliveries(mailing)[0].attempts[0]["problem"] == "EMAIL_URL is not set, so no e-mail can be sent"


def test_a_mail_server_that_does_not_answer_is_asked_again(mailing: Target, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    happen()
    sweep()
    (delivery,) = deliveries(mailing)
    assert delivery.state == "retrying"
    assert delivery.attempts[0]["problem"] == "the mail server does not accept it: ConnectionRefusedError"


def test_a_message_without_a_known_address_of_the_control_plane_has_no_link() -> None:
    without = message(url=None)
    assert "<http" not in slack_body(without)["text"]
    assert teams_body(without)["attachments"][0]["content"]["actions"] == []
    assert "href" not in mail_texts(without)["html"]


def test_texts_are_one_line_of_what_can_be_seen() -> None:
    assert shortened("a\r\nb\tc\x00d\u202ee\u2066f\u200b ") == "a b cdef"
    assert shortened("x" * 300) == "x" * 199 + "…"
    assert shortened("emoji 🚀 é 漢") == "emoji 🚀 é 漢"
    assert inert("ada@example.com") == "ada@\u200bexample.com"


def test_the_excerpt_of_an_answer_has_no_secret_of_the_address() -> None:
    address = Address(
        url="https://hooks.example.com/services/T0123456/B0123456/s3cr3tpart?token=another-secret",
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    body = (
        b"no hook at /services/T0123456/B0123456/S3CR3TPART?token=another-secret, nor s3cr3tpart, another-secret "
        b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\r\n\x1b[31m\xff"
    )
    excerpt = excerpt_of(body, address)
    for hidden in ("s3cr3tpart", "another-secret", "MfKQ9r8", "T0123456"):
        assert hidden.lower() not in excerpt.lower()
    assert len(excerpt_of(b"x" * 10_000, address)) == 200
