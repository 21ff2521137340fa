"""The forms of a message: a webhook's JSON, a message of Slack, a card of Teams, an e-mail. Nothing here sends."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.html import escape

from apps.notifications.senders.messages import Message, inert

# Of Slack: https://api.slack.com/reference/block-kit/blocks. A header has at most 150 characters, a section 10 fields.
_HEADER_CHARACTERS = 150
_FIELDS = 10
_MARKS = {True: "✔", False: "✘", None: "●"}


def title(message: Message) -> str:
    """The headline with its subject, in one line."""
    return f"{message.headline}: {inert(message.subject)}"


def webhook_body(message: Message) -> dict[str, Any]:
    """The body of a webhook, as Standard Webhooks recommends it. Texts are as strangers wrote them."""
    return {
        "type": message.type,
        "timestamp": message.at,
        "data": {**message.data, "url": message.url, "stage": settings.STAGE},
    }


def slack_body(message: Message) -> dict[str, Any]:
    """A message for Slack. What does not know its blocks, as Mattermost, shows `text`.

    Texts of strangers are in fields of plain text, or escaped as Slack asks for; and `inert`, since Mattermost reads
    Markdown.
    """
    mark = _MARKS[message.is_good]
    lines = [f"{mark} *{_escaped(message.headline)}*: {_escaped(inert(message.subject))}"]
    lines += [f"{_escaped(name)}: {_escaped(inert(value))}" for name, value in message.facts]
    header = f"{mark} {title(message)}"
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(header[:_HEADER_CHARACTERS])}]
    fields = [_plain(f"{name}\n{inert(value)}") for name, value in message.facts]
    if fields:
        blocks.append({"type": "section", "fields": fields[:_FIELDS]})
    if message.url:
        lines.append(f"<{message.url}|{_escaped(message.link)}>")
        link = {"type": "mrkdwn", "text": lines[-1], "verbatim": True}
        blocks.append({"type": "section", "text": link})
    # Without names that Slack would look for: https://api.slack.com/reference/surfaces/formatting
    return {"text": "\n".join(lines), "blocks": blocks, "link_names": False, "parse": "none", "unfurl_links": False}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escaped(text: str) -> str:
    """The text for Slack, which reads only these three: https://api.slack.com/reference/surfaces/formatting#escaping."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def teams_body(message: Message) -> dict[str, Any]:
    """A message for a workflow of Teams: an adaptive card. Its runs of text know no Markdown, unlike its blocks."""
    color = {True: "good", False: "attention", None: "default"}[message.is_good]
    body = [_run(f"{_MARKS[message.is_good]} {title(message)}", weight="bolder", size="medium", color=color)]
    body += [_run(f"{name}: {inert(value)}") for name, value in message.facts]
    actions = [{"type": "Action.OpenUrl", "title": message.link, "url": message.url}] if message.url else []
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": actions,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _run(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}


def mail_texts(message: Message) -> Mapping[str, str]:
    """Subject, text and HTML of an e-mail. Each line of a stranger is one line."""
    lines = [title(message), "", *(f"{name}: {inert(value)}" for name, value in message.facts)]
    rows = "".join(
        f'<tr><th align="left">{escape(name)}</th><td>{escape(inert(value))}</td></tr>' for name, value in message.facts
    )
    link = ""
    if message.url:
        lines += ["", f"{message.link}: {message.url}"]
        link = f'<p><a href="{escape(message.url)}">{escape(message.link)}</a></p>'
    return {
        "subject": f"[{settings.STAGE}] {title(message)}",
        "text": "\n".join(lines) + "\n",
        "html": f"<h1>{escape(title(message))}</h1><table>{rows}</table>{link}",
    }
