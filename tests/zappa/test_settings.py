"""zappa_settings.json replaces Zappa's unsafe defaults, and names what exists."""

import inspect
import json
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings

from controlplane import schedules
from controlplane.deployment.lambda_package import ARCHITECTURES, RUNTIMES
from controlplane.infrastructure.names import PROJECT, function_name

FILE = json.loads((settings.BASE_DIR / "zappa_settings.json").read_text())
EVENTS = FILE["base"]["events"]


@pytest.fixture(params=["staging", "production"])
def stage(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of a stage as Zappa reads them."""
    own = FILE[request.param]
    assert own["extends"] == "base"
    return {"name": request.param, **FILE["base"], **own}


def test_a_stage_replaces_zappas_unsafe_defaults(stage: dict[str, Any]) -> None:
    chosen = {name: stage[name] for name in ("debug", "manage_roles", "touch", "keep_warm", "log_level")}
    assert chosen == {"debug": False, "manage_roles": False, "touch": False, "keep_warm": False, "log_level": "WARNING"}
    # The callback "zip" names the stack's bucket. Otherwise Zappa would make one whose name could be taken.
    assert "s3_bucket" not in stage
    assert stage["callbacks"]["zip"] == "controlplane.deployment.lambda_package.package_finish"
    assert stage["xray_tracing"] is False
    assert stage["tags"] == {"project": PROJECT, "stage": stage["name"]}
    # Zappa would download other builds than the installed ones from a package index.
    assert stage["use_precompiled_packages"] is False


def test_a_stage_is_an_http_api_before_our_handler(stage: dict[str, Any]) -> None:
    assert stage["apigateway_version"] == "v2"
    module, name = stage["lambda_handler"].rsplit(".", 1)
    assert callable(getattr(import_module(module), name))
    assert stage["runtime"] in RUNTIMES
    assert stage["architecture"] in ARCHITECTURES
    # An HTTP API waits for 30 seconds at most.
    assert stage["timeout_seconds"] < 30


def test_a_stage_has_the_names_of_the_infrastructure(stage: dict[str, Any]) -> None:
    assert f"{stage['project_name']}-{stage['name']}" == function_name(stage["name"])
    # Zappa's handler sets STAGE from the stage's name; ours needs it before.
    assert stage["aws_environment_variables"]["STAGE"] == stage["name"]


def test_the_file_has_no_region_of_its_own(stage: dict[str, Any]) -> None:
    # Zappa makes clients before it calls our hook, which replaces this name by AWS_REGION.
    assert stage["aws_region"] == "aws-global"
    assert stage["callbacks"]["settings"] == "controlplane.deployment.zappa_hook.prepare"


def test_the_file_contains_no_secret(stage: dict[str, Any]) -> None:
    assert set(stage["aws_environment_variables"]) == {"DJANGO_SETTINGS_MODULE", "STAGE"}


def test_every_schedule_is_in_the_table_once_and_can_be_called() -> None:
    functions = [event["function"] for event in EVENTS]
    known = {
        f"{schedules.__name__}.{name}"
        for name, member in inspect.getmembers(schedules, inspect.isfunction)
        if member.__module__ == schedules.__name__ and not name.startswith("_")
    }
    assert sorted(functions) == sorted(known)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["function"])
def test_a_schedule_has_a_rule_whose_name_zappa_can_read_back(event: dict[str, Any]) -> None:
    assert event["expression"].startswith(("rate(", "cron("))
    # Zappa reads the function after the last hyphen of the rule's name, and cuts longer names.
    assert "-" not in event["function"]
    assert len(f"{function_name('production')}-{event['function']}") <= 64


def test_a_schedule_runs_its_command(tables: None, capsys: pytest.CaptureFixture[str]) -> None:
    schedules.sweep({}, None)
    assert "agents marked" in capsys.readouterr().out
