"""What is left out of the package, without building it."""

import re
from pathlib import Path

from botocore.loaders import Loader
from botocore.session import Session
from django.conf import settings
from pynamodb import constants

from controlplane.deployment.lambda_package import (
    DYNAMODB_OPERATIONS,
    ROTATION_OPERATIONS,
    _shapes_of,
    _with_operations,
)


def test_the_description_of_dynamodb_keeps_each_operation_that_the_product_can_call() -> None:
    client = Session().create_client("dynamodb", region_name="eu-central-1")
    methods = client.meta.method_to_api_mapping
    of_pynamodb = {value for value in vars(constants).values() if value in methods.values()}
    sources = "".join(path.read_text() for path in Path(settings.BASE_DIR, "controlplane/nosql").rglob("*.py"))
    of_ours = {methods[name] for name in re.findall(r"\.client\.(\w+)\(", sources) if name in methods}
    assert len(of_pynamodb) > 10
    assert "UpdateTimeToLive" in of_ours
    assert of_pynamodb | of_ours <= DYNAMODB_OPERATIONS <= set(methods.values())


def test_the_descriptions_for_rotations_keep_each_operation_that_rotators_and_targets_call() -> None:
    sources = "".join(path.read_text() for path in Path(settings.BASE_DIR, "apps/secrets/rotation").rglob("*.py"))
    kept = frozenset[str]().union(*ROTATION_OPERATIONS.values())
    called = set()
    for service in ROTATION_OPERATIONS:
        methods = Session().create_client(service, region_name="eu-central-1").meta.method_to_api_mapping
        names = re.findall(r"\.(\w+_(?:access|secret|parameter)\w*)\b", sources) + re.findall(
            r'"(\w+_access_\w+)"', sources
        )
        called |= {methods[name] for name in names if name in methods}
        assert ROTATION_OPERATIONS[service] <= set(methods.values())
    assert called == kept


def test_it_keeps_all_shapes_of_these_operations_and_no_others() -> None:
    full = Loader().load_service_model("dynamodb", "service-2")
    kept = _with_operations(full, DYNAMODB_OPERATIONS)
    assert kept["metadata"] == full["metadata"]
    assert kept["operations"] == {name: full["operations"][name] for name in DYNAMODB_OPERATIONS}
    assert kept["shapes"].items() <= full["shapes"].items()
    assert {*_shapes_of(kept["operations"]), *_shapes_of(kept["shapes"])} == kept["shapes"].keys()
    assert len(kept["shapes"]) < len(full["shapes"]) / 2
