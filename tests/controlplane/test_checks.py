"""Settings under which nothing starts."""

import pytest

from tests.commands import manage

SAFE = {"SECRET_KEY": "x" * 50, "DEBUG": "false", "ALLOWED_HOSTS": "ci.example.com"}
SERVE = ("-c", "import controlplane.wsgi")


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_safe_settings_start(stage: str) -> None:
    assert manage("check", **SAFE, STAGE=stage).returncode == 0
    assert manage(*SERVE, **SAFE, STAGE=stage).returncode == 0


@pytest.mark.parametrize("stage", ["staging", "production"])
@pytest.mark.parametrize(
    ("unsafe", "told"),
    [
        ({"DEBUG": "true"}, "DEBUG"),
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"SECRET_KEY": "x" * 49}, "SECRET_KEY"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS"),
    ],
)
def test_an_unsafe_setting_stops_commands_and_servers_of_an_exposed_stage(
    stage: str, unsafe: dict[str, str], told: str
) -> None:
    settings = {**SAFE, **unsafe, "STAGE": stage}
    checked, served = manage("check", **settings), manage(*SERVE, **settings)
    assert checked.returncode == served.returncode == 1
    assert told in checked.stderr
    assert f"ImproperlyConfigured: {told}" in served.stderr


def test_without_a_secret_key_commands_run_locally_but_nothing_is_served() -> None:
    assert manage("check", SECRET_KEY="").returncode == 0
    served = manage(*SERVE, SECRET_KEY="")
    assert served.returncode == 1
    assert "ImproperlyConfigured: SECRET_KEY is empty." in served.stderr


def test_a_developer_may_see_the_inside_of_a_local_stage() -> None:
    assert manage(*SERVE, SECRET_KEY="short", DEBUG="true", ALLOWED_HOSTS="*").returncode == 0
