"""Who this agent is to the control plane: its id and its key, kept in a file of mode 0600."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from agent.errors import AgentError
from agent.files import write_private


@dataclass(frozen=True)
class Identity:
    """The control plane's address, the agent's id there, and the key that signs its requests."""

    url: str
    agent_id: str
    key_id: str
    key: bytes = field(repr=False)

    @classmethod
    def from_answer(cls, url: str, answer: dict[str, Any]) -> Identity:
        """The identity that an enrolment or a new configuration gives. Raises KeyError, ValueError or TypeError."""
        try:
            key = base64.b64decode(answer["workload_identity_secret"], validate=True)
        except binascii.Error as error:
            raise ValueError("the key is no base64") from error
        return cls(url=url, agent_id=plain_id(answer["agent_id"]), key_id=plain_id(answer["key_id"]), key=key)

    def save(self, path: Path) -> None:
        """Write it so that it is there whole or not at all."""
        document = {
            "url": self.url,
            "agent_id": self.agent_id,
            "key_id": self.key_id,
            "workload_identity_secret": base64.b64encode(self.key).decode("ascii"),
        }
        write_private(path, json.dumps(document, indent=2).encode())


def identity_load(path: Path) -> Optional[Identity]:
    """The identity of an earlier start, or None. Raises AgentError when the file is damaged."""
    try:
        document = json.loads(path.read_bytes())
        return Identity.from_answer(str(document["url"]), document)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(f"{path} is damaged. Remove it and start with a new enrolment token.") from error


def plain_id(text: object) -> str:
    """The id itself, if it can stand in a path, a signature and a file name. Raises ValueError if it can't."""
    if not isinstance(text, str) or not 0 < len(text) <= 128 or text.startswith(("-", ".")):
        raise ValueError("an id is missing or malformed")
    if not all(character.isascii() and (character.isalnum() or character in "_.-") for character in text):
        raise ValueError("an id holds characters that it must not hold")
    return text
