"""Each command of Zappa as it is typed in a clean checkout, in another region than the deployment test's."""

import fcntl
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.infrastructure.names import function_name
from tests.clients import Client
from tests.zappa.cloud import FUNCTION, PROJECT, SECRETS, STAGE, Cloud, custom_domain, running_cloud

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

REGION = "us-east-1"
NOT_STORED = (
    f"The secret SECRET_KEY of staging is not stored in {REGION}. "
    "Type: manage.py stage_settings set SECRET_KEY --stage staging"
)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An empty emulated AWS, and a checkout whose only settings are in `.env.staging`."""
    folder = tmp_path_factory.mktemp("zappa")
    with running_cloud(folder, REGION) as cloud:
        cloud.project = checkout(folder / "checkout")
        yield cloud


def checkout(folder: Path) -> Path:
    """The files that git knows."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in names.stdout.splitlines():
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    return folder


def installed_copy(folder: Path) -> None:
    """Bring the installed parts of a package into a checkout, if a build here has left them."""
    with (PROJECT / "controlplane/deployment/lambda_package.py").open() as lock:
        # A build of another test may be at work in the directory.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for installed in (PROJECT / ".package").glob("*/installed"):
            shutil.copytree(installed.parent, folder / ".package" / installed.parent.name)


def settings_write(cloud: Cloud, **settings: str) -> None:
    """Write `.env.staging`. No other place has settings."""
    stage = {
        "AWS_REGION": REGION,
        "ALLOWED_HOSTS": ".localhost",
        "PUBLIC_URL": "https://ci.localhost",
        "GITHUB_CLIENT_ID": "id  # of GitHub",
        "RELEASE_WATCH_SECONDS": "1",
        **settings,
    }
    lines = [f"{name}={value}\n" for name, value in stage.items() if value]
    (cloud.project / ".env.staging").write_text("".join(lines))


def typed(cloud: Cloud, program: list[str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in cloud.environment.items() if name != "AWS_REGION"}
    return subprocess.run(
        [*program, *arguments],
        cwd=cloud.project,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def zappa(cloud: Cloud, *arguments: str) -> tuple[int, str]:
    """Type a command of Zappa, without an active virtual environment. The exit code and the last line."""
    done = typed(cloud, [str(Path(sys.executable).parent / "zappa")], *arguments)
    assert "Traceback" not in done.stderr, done.stdout + done.stderr
    assert "Oh no!" not in done.stdout
    said = done.stderr if done.returncode else done.stdout
    return done.returncode, [line for line in said.splitlines() if line.strip()][-1]


def manage(cloud: Cloud, *arguments: str, stdin: str = "") -> str:
    done = typed(cloud, [sys.executable, "manage.py"], *arguments, "--stage", STAGE, stdin=stdin)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def live_version(cloud: Cloud) -> str:
    client = cloud.client("lambda")
    return str(client.get_alias(FunctionName=FUNCTION, Name="live")["FunctionVersion"])


def leftovers(cloud: Cloud) -> list[str]:
    return [path.name for path in cloud.project.iterdir() if path.name.startswith(function_name(STAGE))]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"AWS_REGION": ""}, "AWS_REGION is not set. Add a line such as AWS_REGION=eu-central-1 to .env.staging"),
        pytest.param({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS is not set.", marks=pytest.mark.nightly),
        pytest.param(
            {"SECRET_KEY": "x"},
            "Type: manage.py stage_settings set SECRET_KEY --stage staging",
            marks=pytest.mark.nightly,
        ),
    ],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
def test_a_broken_setting_stops_both_deployments_before_anything_exists(
    cloud: Cloud, wrong: dict[str, str], message: str
) -> None:
    settings_write(cloud, **wrong)
    code, last = zappa(cloud, "deploy", STAGE)
    assert (code, message in last) == (1, True), last
    done = typed(cloud, [sys.executable, "manage.py"], "deploy", "--stage", STAGE, "--yes")
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert cloud.client("cloudformation").describe_stacks()["Stacks"] == []
    assert cloud.client("s3").list_buckets()["Buckets"] == []
    assert leftovers(cloud) == []


@pytest.mark.nightly  # Two and a half minutes. `test_deployment` does the same by `manage.py` each time.
def test_each_command_does_what_its_name_says_or_names_the_command_to_type(cloud: Cloud) -> None:
    installed_copy(cloud.project)
    with custom_domain(cloud) as server:
        settings_write(cloud, STAGE_URL=server)

        # Before the deployment, each command stops with one sentence.
        assert zappa(cloud, "deploy", STAGE) == (1, NOT_STORED)
        for command in ("rollback", "tail"):
            missing = f"{FUNCTION} is not deployed in {REGION}. Type: zappa deploy staging"
            assert zappa(cloud, command, STAGE) == (1, missing)
        manage(cloud, "infrastructure", "deploy", "--yes")
        for name, value in SECRETS.items():
            manage(cloud, "stage_settings", "set", name, stdin=value)

        # The first deployment.
        code, last = zappa(cloud, "deploy", STAGE, "--disable_progress")
        assert (code, last.startswith("Deployment complete!: ")) == (0, True), last
        assert Client(server).get("/info").json()["environment"] == STAGE
        configuration = cloud.client("lambda").get_function_configuration(FunctionName=FUNCTION, Qualifier="live")
        assert configuration["FunctionArn"].startswith(f"arn:aws:lambda:{REGION}:")
        variables = configuration["Environment"]["Variables"]
        assert not set(SECRETS) & set(variables)
        assert not set(SECRETS.values()) & set(variables.values())
        assert zappa(cloud, "deploy", STAGE) == (1, "staging is deployed already. Type: zappa update staging")
        assert zappa(cloud, "rollback", STAGE) == (1, "No version is known that was live before 1.")
        # The alarms of the API are missing.
        code, last = zappa(cloud, "update", STAGE)
        assert (code, "Type: manage.py infrastructure deploy --stage staging" in last) == (1, True)
        manage(cloud, "infrastructure", "deploy", "--yes")

        # An update goes live as a release.
        settings_write(cloud, STAGE_URL=server, SESSION_IDLE_SECONDS="1800")
        code, last = zappa(cloud, "update", STAGE, "--disable_progress")
        assert (code, last.startswith("Your updated Zappa deployment is live!: ")) == (0, True), last
        assert live_version(cloud) == "2"
        assert zappa(cloud, "status", STAGE) == (0, "All requests go to version 2.")
        # One whose address does not answer is rolled back.
        settings_write(cloud, STAGE_URL="http://127.0.0.1:9", SESSION_IDLE_SECONDS="1801")
        code, last = zappa(cloud, "update", STAGE, "--no-upload", "true")
        assert (code, last.startswith("uploaded, not live: http://127.0.0.1:9/health cannot be reached")) == (1, True)
        assert live_version(cloud) == "2"
        assert zappa(cloud, "rollback", STAGE) == (0, "All requests go to version 1.")
        assert live_version(cloud) == "1"
        assert leftovers(cloud) == []

        # Commands in the function, and its log.
        assert "agents marked" in typed(cloud, [zappa_program()], "manage", STAGE, "sweep").stdout
        assert zappa(cloud, "manage", STAGE, "migrate")[0] == 1
        token = zappa(cloud, "manage", STAGE, "enrolment_token --uses 2")[1]
        assert re.fullmatch(r"hce_\S{43}", token)
        assert zappa(cloud, "manage", STAGE, "revoke_token none") == (
            1,
            "revoke_token none failed: There is no such API token.",
        )
        log = typed(cloud, [zappa_program()], "tail", STAGE, "--disable-keep-open").stdout
        assert "agents marked" in log
        assert token not in log

    assert zappa(cloud, "undeploy", STAGE, "-y") == (
        0,
        "Tables, logs and the key are kept. To deploy again, type: zappa deploy staging",
    )
    assert cloud.client("events").list_rules()["Rules"] == []


def zappa_program() -> str:
    return str(Path(sys.executable).parent / "zappa")
