"""Reads JSON strictly. Does not import DRF, because the busiest endpoints run without it."""

import json
import math
import re
from collections.abc import Collection
from typing import Any

from django.http import HttpRequest

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, InvalidInput

# Half of an escaped surrogate pair: valid in JSON, but it cannot be encoded as UTF-8.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def json_body(request: HttpRequest) -> dict[str, Any]:
    """The body as a JSON object, for plain Django views. Raises InvalidInput with code ``malformed_json``."""
    return json_object(json_parse(request.body or b"{}"))


def json_type_require(request: HttpRequest) -> None:
    """Raise ApplicationError 415 ``unsupported_media_type`` when the body's media type is not JSON."""
    if request.body and request.content_type != "application/json":
        raise ApplicationError(
            f'Unsupported media type "{request.content_type}" in request.',
            code=ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            status=415,
        )


def members_known_require(body: dict[str, Any], known: Collection[str]) -> None:
    """Raise InvalidInput with the name of the first member that is not one of `known`."""
    for name in body:
        if name not in known:
            # Imported here, because only a request with a mistyped name needs it.
            import difflib

            close = difflib.get_close_matches(name[:100], known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the members are {', '.join(known)}"
            raise InvalidInput.field(name[:100], f"must not be given; {hint}")


def json_object(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object. Raises InvalidInput with code ``malformed_json``."""
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.", code=ErrorCode.MALFORMED_JSON)
    return value


def json_parse(raw: bytes) -> Any:
    """Parse a JSON text. Raises InvalidInput with code ``malformed_json``."""
    try:
        text = raw.decode()
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise InvalidInput("The body must be UTF-8.", code=ErrorCode.MALFORMED_JSON) from None
    except UnicodeEncodeError:
        raise InvalidInput("A string in the body has half a surrogate pair.", code=ErrorCode.MALFORMED_JSON) from None
    except RecursionError:
        raise InvalidInput("The body is nested too deeply.", code=ErrorCode.MALFORMED_JSON) from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"The body is not JSON: {error}.", code=ErrorCode.MALFORMED_JSON) from None
    except ValueError:
        raise InvalidInput("A number in the body is too large or not finite.", code=ErrorCode.MALFORMED_JSON) from None
    return value


def _finite(literal: str) -> float:
    """Parse a number. JSON has no NaN and no infinity, and neither has DynamoDB."""
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError("a number is too large or not finite")
    return number
