"""Reading XML from agents, who may send anything: in one pass, with bounded memory, and without entities."""

import re
from typing import Any, Protocol
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Unprocessable

# No test runner nests its elements deeper.
_MAX_DEPTH = 64
# Characters that XML does not allow, as bytes and as references. Test runners write them all the same, such as the
# colours of what a test printed.
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r")
_REFERENCES = re.compile(rb"&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|[xX]0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]));")
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")


class Target(Protocol):
    """Gets the elements of a document in their order, with the depth of each (1 is the root). Raises Unprocessable."""

    def start(self, tag: str, attributes: dict[str, str], depth: int) -> None: ...
    def end(self, tag: str, depth: int) -> None: ...
    def data(self, text: str) -> None: ...


def report_invalid(message: str) -> Unprocessable:
    """The error for a report that cannot be read. `message` says what is wrong."""
    return Unprocessable(message, code=ErrorCode.REPORT_INVALID)


def xml_read(data: bytes, target: Target) -> None:
    """Give the elements of the document to the target, with tags without their namespace.

    Raises Unprocessable with code ``report_invalid`` for what is no XML, defines entities, nests too deep, or has an
    encoding that is unknown or wrong.
    """
    elements = _Elements(target)
    try:
        parser = DefusedXMLParser(target=elements)
        parser.feed(_cleaned(data))
        parser.close()
    except DefusedXmlException:
        raise report_invalid("The report defines entities, which no test runner does. Send it without them.") from None
    except ParseError as error:
        raise report_invalid(f"The report is not valid XML: {error}.") from None
    except (LookupError, ValueError, OverflowError) as error:
        # Of the declared encoding: Python does not know it, or expat cannot use it.
        raise report_invalid(f"The report cannot be decoded: {str(error)[:200]}. Write it in UTF-8.") from None


def _cleaned(data: bytes) -> bytes:
    if data.startswith(_WIDE):
        return data
    return _REFERENCES.sub(b"", data.translate(None, _CONTROLS))


class _Elements:
    """What the parser calls."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._depth = 0
        self.data = target.data

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise report_invalid(f"The report has elements more than {_MAX_DEPTH} levels deep.")
        self._target.start(_plain(tag), attributes, self._depth)

    def end(self, tag: str) -> None:
        self._target.end(_plain(tag), self._depth)
        self._depth -= 1

    def close(self) -> Any:
        return None


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2] if tag.startswith("{") else tag
