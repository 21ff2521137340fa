"""A random value, for what only its targets check: keys of cookies, tokens between services, webhooks' keys."""

import secrets
from collections.abc import Mapping
from typing import ClassVar

from controlplane.lib.rotation import Notes, Option, Rotator, Step

_ALPHABETS = {
    "letters-digits": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    "hex": "0123456789abcdef",
    "base64url": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    "printable": "".join(map(chr, range(0x21, 0x7F))),
}


class GeneratedValue(Rotator):
    """Nothing else knows the value but the targets, so only they have steps."""

    title = "generated value"
    options: ClassVar[Mapping[str, Option]] = {
        "length": Option("must be a number of characters from 16 to 1024", kind=int, least=16, most=1024, default=40),
        "alphabet": Option(
            f"must be one of {', '.join(_ALPHABETS)}", pattern="|".join(_ALPHABETS), default="letters-digits"
        ),
    }

    def make(self, step: Step) -> str:
        alphabet = _ALPHABETS[step.config["alphabet"]]
        return "".join(secrets.choice(alphabet) for _ in range(step.config["length"]))

    def apply(self, step: Step) -> Notes | None:
        return None

    def verify(self, step: Step) -> Notes | None:
        return None

    def revert(self, step: Step) -> Notes | None:
        return None
