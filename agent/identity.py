"""The agent's identity at the control plane: its id and its key, kept in a file of mode 0600."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from agent.errors import AgentError
from agent.files import write_private


@dataclass(frozen=True)
class Identity:
    """The control plane's addresses, the agent's id there, and the key that signs the agent's requests.

    The addresses are those of the enrolment. A start without any uses them.
    """

    url: str
    agent_id: str
    key_id: str
    key: bytes = field(repr=False)
    fallbacks: tuple[str, ...] = ()

    @classmethod
    def from_answer(cls, urls: Sequence[str], answer: dict[str, Any]) -> Identity:
        """The identity in an answer to an enrolment or a configuration. Raises KeyError, ValueError or TypeError.

        `urls` are the main address and the fallbacks.
        """
        try:
            key = base64.b64decode(answer["workload_identity_secret"], validate=True)
        except binascii.Error as error:
            raise ValueError("the key is not base64") from error
        return cls(
            url=urls[0],
            agent_id=plain_id(answer["agent_id"]),
            key_id=plain_id(answer["key_id"]),
            key=key,
            fallbacks=tuple(urls[1:]),
        )

    @property
    def urls(self) -> list[str]:
        """The main address and the fallbacks."""
        return [self.url, *self.fallbacks]

    def save(self, path: Path) -> None:
        """Replace the identity file in one step. Raises OSError."""
        document = {
            "url": self.url,
            "fallbacks": list(self.fallbacks),
            "agent_id": self.agent_id,
            "key_id": self.key_id,
            "workload_identity_secret": base64.b64encode(self.key).decode("ascii"),
        }
        write_private(path, json.dumps(document, indent=2).encode())


def identity_load(path: Path) -> Optional[Identity]:
    """The identity that an earlier start saved, or None. Raises AgentError if the file is damaged."""
    try:
        document = json.loads(path.read_bytes())
        # An earlier version knew no fallbacks.
        return Identity.from_answer([str(document["url"]), *map(str, document.get("fallbacks") or ())], document)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(
            f"The identity file {path} is damaged. Remove it and start the agent with a new token."
        ) from error


def plain_id(text: object) -> str:
    """The id itself, if it is safe in a URL path, a signature and a file name. Raises ValueError if it is not."""
    if not isinstance(text, str) or not 0 < len(text) <= 128 or text.startswith(("-", ".")):
        raise ValueError("an id is missing or malformed")
    if not all(character.isascii() and (character.isalnum() or character in "_.-") for character in text):
        raise ValueError("an id must have only letters, digits, _, . and -")
    return text
