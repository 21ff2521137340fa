"""`manage.py stage_settings`, and how the function reads what it has stored when it starts."""

import json
import os
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings

from controlplane import lambda_entry
from controlplane.deployment.function_settings import settings_given
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.names import key_alias
from controlplane.lib import stage_secrets
from controlplane.lib.stage_secrets import SECRET_SETTINGS, SecretsUnavailable, secrets_read
from tests.commands import command

KEY = "0123456789abcdef" * 4
REQUEST = {"version": "2.0", "requestContext": {"http": {"method": "GET"}}}


@pytest.fixture(params=["parameter-store", "secrets-manager"])
def store(request: pytest.FixtureRequest, account: Account, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the stores, in a new account that has the stage's key."""
    kms = account.client("kms")
    kms.create_alias(AliasName=key_alias("staging"), TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    monkeypatch.setenv("SECRETS_STORE", request.param)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    # moto loads a service when it is first called, which takes longer than the product waits.
    account.client("ssm").describe_parameters()
    account.client("secretsmanager").list_secrets()
    return str(request.param)


def stage_settings(*arguments: str, stdin: str = "") -> Any:
    return command("stage_settings", *arguments, "--stage", "staging", stdin=stdin)


def test_a_secret_is_set_from_standard_input_listed_without_its_value_read_at_start_and_deleted(store: str) -> None:
    assert secrets_read("staging", os.environ) == {}
    assert stage_settings("list").stdout == "No secret of staging is stored.\n"
    for value in ("an earlier key " * 5, KEY):
        done = stage_settings("set", "SECRET_KEY", stdin=f"{value.strip()}\n")
        assert (done.returncode, value in done.stdout) == (0, False), done.stderr
    stage_settings("set", "GITHUB_CLIENT_SECRET", stdin="of github")
    listed = stage_settings("list").stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["GITHUB_CLIENT_SECRET", "set"],
        ["SECRET_KEY", "set"],
    ]
    assert KEY not in listed
    assert secrets_read("staging", os.environ) == {"SECRET_KEY": KEY, "GITHUB_CLIENT_SECRET": "of github"}
    assert secrets_read("production", os.environ) == {}
    assert stage_settings("delete", "GITHUB_CLIENT_SECRET").returncode == 0
    assert secrets_read("staging", os.environ) == {"SECRET_KEY": KEY}
    again = stage_settings("delete", "GITHUB_CLIENT_SECRET")
    assert (again.returncode, again.stderr) == (
        1,
        "CommandError: The secret GITHUB_CLIENT_SECRET of staging is not stored.\n",
    )


def test_a_parameter_is_a_secure_string_under_the_path_of_the_stage_with_the_stages_key(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stage_settings("set", "SECRET_KEY", stdin=KEY)
    kms = account.client("kms")
    kms.create_alias(AliasName=key_alias("staging"), TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    stage_settings("set", "SECRET_KEY", stdin=KEY)
    (found,) = account.client("ssm").describe_parameters()["Parameters"]
    assert (found["Name"], found["Type"]) == ("/hybrid-ci-cd/staging/SECRET_KEY", "SecureString")
    assert found["KeyId"] == "alias/hybrid-ci-cd-staging"
    # The emulator accepts a key that does not exist.
    assert before.returncode == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SECRET_KEY", "short", "SECRET_KEY has fewer than 50 characters."),
        ("SECRET_KEY", "ab" * 30, "SECRET_KEY is easy to guess."),
        ("SECRET_KEY_FALLBACKS", f"{KEY},short", "SECRET_KEY_FALLBACKS has fewer than 50 characters."),
        ("GITHUB_CLIENT_SECRET", "", "GITHUB_CLIENT_SECRET must be one line of printable characters"),
        ("GITHUB_CLIENT_SECRET", "$name", "GITHUB_CLIENT_SECRET must not begin with a dollar sign."),
    ],
)
def test_a_secret_with_which_the_function_would_not_start_is_not_stored(
    store: str, name: str, value: str, message: str
) -> None:
    done = stage_settings("set", name, stdin=value)
    assert done.returncode == 1
    assert message in done.stderr
    assert secrets_read("staging", os.environ) == {}


def test_only_secrets_are_stored(account: Account) -> None:
    assert stage_settings("set", "ALLOWED_HOSTS", stdin="x").returncode == 2


def test_every_setting_that_is_a_secret_is_stored_and_not_given_to_the_function() -> None:
    example = (settings.BASE_DIR / ".env.example").read_text()
    names = set(re.findall(r"^(\w*(?:SECRET|PASSWORD|TOKEN)\w*)=", example, re.MULTILINE))
    # These are no secrets, or AWS's own, or that of a command.
    others = {"PASSWORD_SIGN_IN", "AWS_SECRET_ACCESS_KEY", "ADMIN_PASSWORD", "SECRETS_STORE", "GOOGLE_TOKEN_URL"}
    # It must be empty.
    others.add("DYNAMODB_SESSIONS_AWS_SECRET_ACCESS_KEY")
    # The URL of a mail server has a password.
    assert names - others | {"EMAIL_URL"} == set(SECRET_SETTINGS)
    assert settings_given(dict.fromkeys([*SECRET_SETTINGS, "ADMIN_PASSWORD"], "x")) == {}


def test_all_secrets_are_read_in_one_call() -> None:
    # More names would need a second call of GetParameters.
    assert len(SECRET_SETTINGS) <= 10


def handler_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the entry point start another handler, since the product's connects to the database of this environment."""
    module = ModuleType("controlplane.lambda_handler")
    module.handler = lambda _event, _context: {"statusCode": 200}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(lambda_entry, "_handler", None)


class _Aws(HTTPServer):
    """Answers each call with the next of `answers`, and keeps the calls."""

    answers: list[tuple[int, dict[str, Any]]]
    calls: list[str]


@pytest.fixture
def aws_of_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Aws]:
    class Handler(BaseHTTPRequestHandler):
        server: _Aws

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.calls.append(self.headers["X-Amz-Target"])
            status, answer = self.server.answers.pop(0)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = _Aws(("127.0.0.1", 0), Handler)
    server.answers, server.calls = [], []
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    values = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_LAMBDA_FUNCTION_NAME": "hybrid-ci-cd-staging",
        "STAGE": "staging",
        "GITHUB_CLIENT_SECRET": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    handler_replace(monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


STORED = {"Parameters": [{"Name": "/hybrid-ci-cd/staging/GITHUB_CLIENT_SECRET", "Value": "of github"}]}
DOWN = (500, {"__type": "InternalServerError"})


def test_secrets_that_cannot_be_read_give_503_and_a_clear_log_line_and_the_next_request_tries_again(
    aws_of_answers: _Aws, capfd: pytest.CaptureFixture[str]
) -> None:
    aws_of_answers.answers = [DOWN, DOWN, DOWN, (200, STORED)]
    answer = lambda_entry.handler(REQUEST, None)
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, "unavailable")
    assert answer["headers"]["Retry-After"] == "2"
    line = json.loads(capfd.readouterr().err)
    assert line["level"] == "ERROR"
    assert line["message"] == (
        "The secrets of the stage cannot be read, so requests get 503. "
        "AmazonSSM.GetParameters is answered with 500: InternalServerError"
    )
    # The next one tries twice, and then serves.
    assert lambda_entry.handler(REQUEST, None) == {"statusCode": 200}
    assert os.environ["GITHUB_CLIENT_SECRET"] == "of github"
    assert aws_of_answers.calls == ["AmazonSSM.GetParameters"] * 4


def test_a_process_that_has_read_the_secrets_reads_them_no_more(aws_of_answers: _Aws) -> None:
    aws_of_answers.answers = [(200, STORED)]
    lambda_entry.handler(REQUEST, None)
    lambda_entry.handler(REQUEST, None)
    assert len(aws_of_answers.calls) == 1


def test_a_refused_permission_is_not_tried_again_at_once_and_fails_a_schedule(aws_of_answers: _Aws) -> None:
    aws_of_answers.answers = [(400, {"__type": "com.amazon#AccessDeniedException"})]
    with pytest.raises(SecretsUnavailable, match="answered with 400: AccessDeniedException"):
        lambda_entry.handler({"source": "aws.events"}, None)
    assert len(aws_of_answers.calls) == 1


def test_a_machine_that_is_not_lambda_reads_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    handler_replace(monkeypatch)
    monkeypatch.setattr(stage_secrets, "_call", None)
    assert lambda_entry.handler(REQUEST, None) == {"statusCode": 200}
