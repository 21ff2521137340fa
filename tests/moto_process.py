"""`python -m tests.moto_process`: moto in place of ministack, with the same additional address for all items.

It judges the same calls a second time: `make test-moto`, and the tests of the services that no other engine is needed
for.
"""

import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import Mock

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

from tests.emulator_items import ITEMS_PATH

# moto's API Gateway, and with it CloudFormation, import this for documents that no test gives them. The package would
# bring a dozen more.
for _name in ("openapi_spec_validator", "openapi_spec_validator.validation.exceptions"):
    sys.modules[_name] = Mock(OpenAPIValidationError=ValueError)

_moto: Any = DomainDispatcherApplication(create_backend_app)
# As with ministack, an access key of twelve digits is the number of an account.
_ACCOUNT = re.compile(r"Credential=(\d{12})/")
# The tests do not sign their calls of DynamoDB. moto takes the service and the region from the signature.
_UNSIGNED = f"AWS4-HMAC-SHA256 Credential=test/20260101/{os.environ['AWS_REGION']}/dynamodb/aws4_request"

# DynamoDB's transactions are serializable and S3 shows an object whole or not at all; moto's threads see each other's
# transactions and objects half done.
_one_call = threading.Lock()


def _application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] != ITEMS_PATH:
        if environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB_"):
            environ.setdefault("HTTP_AUTHORIZATION", _UNSIGNED)
        elif account := _ACCOUNT.search(environ.get("HTTP_AUTHORIZATION", "")):
            environ["HTTP_X_MOTO_ACCOUNT_ID"] = account[1]
        # The body is read first, so that a client that stalls holds up no other.
        environ["wsgi.input"] = io.BytesIO(get_input_stream(environ).read())
        environ["wsgi.input_terminated"] = True
        with _one_call:
            return _moto(environ, start_response)
    body = b""
    if environ["REQUEST_METHOD"] == "GET":
        body = json.dumps(_items()).encode()
    else:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        _replace(json.loads(environ["wsgi.input"].read(length) or b"{}"))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def _tables() -> Iterator[tuple[str, Any]]:
    for backend in list(dynamodb_backends[DEFAULT_ACCOUNT_ID].values()):
        yield from list(backend.tables.items())


def _items() -> dict[str, Any]:
    """The items as `tests.emulator_items` says: by table, value of the partition key, value of the sort key."""
    found: dict[str, Any] = {}
    for name, table in _tables():
        for item in table.all_items():
            keys = (item.hash_key.value, item.range_key.value if item.range_key else "__no_sort__")
            found.setdefault(name, {}).setdefault(keys[0], {})[keys[1]] = item.to_json()["Attributes"]
    return dict(sorted(found.items()))


def _replace(items: dict[str, Any]) -> None:
    for name, table in _tables():
        table.items.clear()
        for partition in items.get(name, {}).values():
            for item in partition.values():
                table.put_item(item)


class _Handler(WSGIRequestHandler):
    # Connections are kept, as those of AWS.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, *_: object) -> None:
        """Nothing reads it."""


def main() -> None:
    server = make_server(
        os.environ["BIND_HOST"], int(os.environ["GATEWAY_PORT"]), _application, threaded=True, request_handler=_Handler
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
