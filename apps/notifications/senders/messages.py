"""A message before it is written for a target, and the rules for the texts of strangers in it.

Branches, commit messages and names come from people who may not be trusted. In each form they are only text: they
notify no channel, make no link, and end no line.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.lib.frozen import frozen

# How much of a text a message has.
TEXT_CHARACTERS = 200
_WHITE = re.compile(r"\s+")
# With a break after each of these, what follows is no name and no link any more: @channel, https://…, www.…, [a](b).
_ACTIVE = re.compile(r"@|:(?=//)|(?<=www)\.|\](?=\()|(?<=mailto):|(?<=tel):", re.IGNORECASE)
# It takes no space on the screen.
_BREAK = "\u200b"


@frozen
class Message:
    """What is announced, in texts that are still as strangers wrote them.

    `type` is for programs (``run.failed``), `headline` is ours (“Failed after success”), and `subject` is what it is
    about. `facts` are names of ours and values. `url` is the page of it, with the text `link`; None if the address of
    the control plane is not known. `data` is for programs. `is_good` is None for what is neither good nor bad.
    """

    type: str
    headline: str
    subject: str
    facts: Sequence[tuple[str, str]]
    url: str | None
    link: str
    at: str
    data: Mapping[str, Any]
    is_good: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """The message as it is stored."""
        return {
            "type": self.type,
            "headline": self.headline,
            "subject": shortened(self.subject),
            "facts": [[name, shortened(value)] for name, value in self.facts],
            "url": self.url,
            "link": self.link,
            "at": self.at,
            "data": dict(self.data),
            "is_good": self.is_good,
        }

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "Message":
        """The message that `as_json` returned."""
        return cls(**{**stored, "facts": [(name, value) for name, value in stored["facts"]]})


def shortened(text: str, characters: int = TEXT_CHARACTERS) -> str:
    """The text in one line, without what cannot be seen, and cut."""
    visible = "".join(" " if character.isspace() else character for character in text if _is_shown(character))
    line = _WHITE.sub(" ", visible).strip()
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def _is_shown(character: str) -> bool:
    """Whether it is more than a control character, one that turns the text around it, or half of a character."""
    return character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


def inert(text: str) -> str:
    """The text in one line, such that no program makes a mention or a link of it. It looks the same."""
    return _ACTIVE.sub(lambda found: found.group() + _BREAK, shortened(text))
