"""What the program calls is what the control plane's API document says."""

import re
from typing import Any

import pytest
from hci import endpoints
from hci.client import Client
from hci.endpoints import Endpoint

from controlplane.http.api_document import api_document

ENDPOINTS = {name: found for name, found in vars(endpoints).items() if isinstance(found, Endpoint)}


def members(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object, where it is only named."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = api_document()["components"]["schemas"][name] if name else schema
    return found


@pytest.mark.parametrize("name", ENDPOINTS)
def test_each_call_is_in_the_api_document_with_its_method_and_parameters(name: str) -> None:
    endpoint = ENDPOINTS[name]
    operation = api_document()["paths"][endpoint.path][endpoint.method.lower()]
    known = {(one["in"], one["name"]) for one in operation.get("parameters", [])}
    assert {("query", one) for one in endpoint.query} <= known
    assert {("header", one) for one in endpoint.headers} <= known
    in_path = re.findall(r"{(\w+)}", endpoint.path)
    assert {("path", one) for one in in_path} == {one for one in known if one[0] == "path"}
    bodies = operation.get("requestBody", {}).get("content", {})
    if endpoint.body:
        schema = members(bodies["application/json"]["schema"])
        assert set(schema.get("required", [])) <= set(endpoint.body) <= set(schema["properties"])
    else:
        assert not bodies
    # A parameter that must be given is one that the program can give.
    assert {one["name"] for one in operation.get("parameters", []) if one.get("required")} <= {
        *endpoint.query,
        *in_path,
    }


def test_a_call_can_send_only_what_its_endpoint_names() -> None:
    client = Client("http://127.0.0.1:1")
    with pytest.raises(ValueError, match="does not know"):
        client.call(endpoints.RUNS, query={"colour": "red"})
    with pytest.raises(ValueError, match="does not know"):
        client.call(endpoints.RUN_RETRY, run_id="x", body={"all": True})
    client.close()
