"""The part of AWS's command line that docs/operations.md uses, so that the tests run its commands unchanged.

It calls boto3, and reads the names of all options from botocore's descriptions of the services.
"""

import json
import re
import sys
from typing import Any

import boto3
import jmespath
from botocore import xform_name


def main(arguments: list[str]) -> None:
    service, operation, *rest = arguments
    client = boto3.client(service)
    if operation == "wait":
        waiter = rest.pop(0).replace("-", "_")
        client.get_waiter(waiter).wait(**parameters(client, "DescribeTable", options(rest)))
        return
    named = options(rest)
    query, output = named.pop("query", None), named.pop("output", ["json"])
    method = operation.replace("-", "_")
    name = client.meta.method_to_api_mapping[method]
    answer = getattr(client, method)(**parameters(client, name, named))
    answer.pop("ResponseMetadata")
    found = jmespath.search(query[0], answer) if query else answer
    print(found if output == ["text"] else json.dumps(found, default=str))


def options(rest: list[str]) -> dict[str, list[str]]:
    """Each option with the words that follow it."""
    found: dict[str, list[str]] = {}
    for word in rest:
        if word.startswith("--"):
            values = found[word.removeprefix("--")] = []
        else:
            values.append(word)
    return found


def parameters(client: Any, operation: str, named: dict[str, list[str]]) -> dict[str, Any]:
    shape = client.meta.service_model.operation_model(operation).input_shape
    members = {xform_name(name, "-"): (name, member) for name, member in shape.members.items()}
    found = {}
    for option, words in named.items():
        if option not in members and option.startswith("no-"):
            found[members[option.removeprefix("no-")][0]] = False
        else:
            name, member = members[option]
            found[name] = value(member, words)
    return found


def value(shape: Any, words: list[str]) -> Any:
    """The value of the words: `A=b,C=d` for a structure, and one word per item of a list."""
    if shape.type_name == "list":
        return [value(shape.member, [word]) for word in words]
    if shape.type_name == "boolean":
        return not words or words == ["true"]
    (word,) = words
    if shape.type_name == "structure":
        pairs = (part.split("=", 1) for part in re.split(",", word))
        return {name: value(shape.members[name], [text]) for name, text in pairs}
    return int(word) if shape.type_name in ("integer", "long") else word


if __name__ == "__main__":
    main(sys.argv[1:])
