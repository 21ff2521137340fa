"""An emulated AWS that runs the package, and a relay in place of a custom domain."""

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError
from django.conf import settings

from controlplane.infrastructure.names import (
    artifact_bucket_name,
    function_name,
    job_log_bucket_name,
    key_alias,
    signing_key_alias,
)
from tests.emulator import free_port
from tests.zappa.calls import recording

PROJECT = Path(settings.BASE_DIR)
REGION = "eu-central-1"
STAGE = "staging"
FUNCTION = function_name(STAGE)
# The emulator's account for an access key that is not an account's number.
ACCOUNT = "000000000000"
SERVICES = (
    "apigateway,cloudformation,cloudwatch,dynamodb,events,iam,kms,lambda,logs,monitoring,s3,secretsmanager,sns,sqs,ssm,"
    "sts"
)

# The commands of `manage.py` that a deployer runs. Others are for people with more rights.
DEPLOYERS = ("deploy", "infrastructure", "release")
# What an operator stores before the first deployment.
SECRETS = {"SECRET_KEY": "only-for-tests-" + "0123456789" * 5, "GITHUB_CLIENT_SECRET": "only-for-tests"}

# One process does what three commands do.
_PREPARE = f"""
import os
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "infrastructure", "deploy", "--stage", "{STAGE}", "--yes"])
# Those who store secrets have more rights than deployers.
os.environ["AWS_CALLS_FILE"] = os.devnull
for name in {[*SECRETS]}:
    execute_from_command_line(["manage.py", "stage_settings", "set", name, "--stage", "{STAGE}"])
"""


def package_build(archive: Path) -> Path:
    """Build the package by Zappa's command; return its path."""
    building = archive.with_suffix(".building")
    done = subprocess.run(
        [sys.executable, "-m", "zappa.cli", "package", STAGE, "--output", str(building)],
        cwd=PROJECT,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return building.rename(archive)


@functools.cache
def _client(service: str, url: str, region: str) -> Any:
    return boto3.client(
        service, endpoint_url=url, region_name=region, aws_access_key_id="test", aws_secret_access_key="test"
    )


@dataclass
class Cloud:
    """The emulator, and the settings of a stage in it."""

    port: int
    folder: Path
    region: str = REGION
    # The checkout from which commands run.
    project: Path = PROJECT
    # The content of .env.staging.
    settings: dict[str, str] = field(
        default_factory=lambda: {
            "ALLOWED_HOSTS": ".localhost",
            "PUBLIC_URL": "https://ci.localhost",
            "GITHUB_CLIENT_ID": "id",
            "PASSWORD_SIGN_IN": "true",
            "AGENT_CHECK_SECONDS": "1",
            "DEFAULT_PIPELINE": "self",
        }
    )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of programs that use this AWS, without the person's own settings."""
        kept = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
            if name in os.environ
        }
        return {
            **kept,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def calls(self) -> Path:
        """The file of the calls to AWS that the commands have made."""
        return self.folder / "aws-calls"

    @property
    def api_host(self) -> str:
        """The host name of the stage's HTTP API, once it exists."""
        (api,) = self.client("apigatewayv2").get_apis()["Items"]
        assert (api["Name"], api["ProtocolType"]) == (FUNCTION, "HTTP")
        return f"{api['ApiId']}.execute-api.localhost:{self.port}"

    def client(self, service: str) -> Any:
        """boto3's client. To make one takes longer than most of its calls."""
        return _client(service, self.url, self.region)

    def manage(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """Run `manage.py` locally as a person who deploys; assert the exit code; return the output."""
        recorded = recording(self.calls) if arguments[0] in DEPLOYERS else {}
        return self._run("manage.py", *arguments, code=code, stdin=stdin, environment=recorded)

    def prepare(self) -> None:
        """Do what comes before the first deployment: make the infrastructure, and store the secrets."""
        self._run("-c", _PREPARE, stdin="\n".join(SECRETS.values()), environment=recording(self.calls))

    def zappa(self, *arguments: str) -> str:
        """Run Zappa's command with the project's settings; return the output."""
        command, *rest = arguments
        return self._run("-m", "zappa.cli", command, STAGE, *rest, environment=recording(self.calls))

    def python(self, code: str) -> Any:
        """Run code of the product with the stage's tables and key; return the JSON that it prints."""
        program = f"import django; django.setup()\n{code}"
        bucket = job_log_bucket_name(STAGE, self.region, ACCOUNT)
        artifacts = artifact_bucket_name(STAGE, self.region, ACCOUNT)
        own = {
            "STAGE": STAGE,
            "KMS_KEY_ID": key_alias(STAGE),
            "SIGNING_KEY_IDS": signing_key_alias(STAGE),
            "LOG_BUCKET": bucket,
            "ARTIFACT_BUCKET": artifacts,
            **SECRETS,
        }
        return json.loads(self._run("-c", program, environment=own))

    def _run(
        self, *arguments: str, code: int = 0, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.project,
            input=stdin,
            env={
                **self.environment,
                **self.settings,
                "DJANGO_SETTINGS_MODULE": "controlplane.settings",
                "VIRTUAL_ENV": sys.prefix,
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr if code else done.stdout


# Only the emulator may use the modules that are installed for tests: its functions find only their package. It would
# unpack that for each process of each version again. Like Lambda's, they share it and have no reason to write into it.
_EMULATOR = """
import hashlib, pathlib, runpy, sys, threading, types, zipfile
shared = pathlib.Path(sys.argv[1])
sys.path.extend(sys.argv[2:])
del sys.argv[1:]
from ministack.core import lambda_runtime

class Package(zipfile.ZipFile):
    lock = threading.Lock()

    def extractall(self, folder):
        unpacked = shared / hashlib.sha256(pathlib.Path(self.filename).read_bytes()).hexdigest()
        with self.lock:
            if not unpacked.exists():
                super().extractall(unpacked)
        pathlib.Path(folder).rmdir()
        pathlib.Path(folder).symlink_to(unpacked)

lambda_runtime.zipfile = types.SimpleNamespace(**vars(zipfile) | {"ZipFile": Package})
runpy.run_module("ministack", run_name="__main__", alter_sys=True)
"""


@contextmanager
def running_cloud(folder: Path, region: str = REGION) -> Iterator[Cloud]:
    """Start the emulator on loopback with all that a deployment needs, and stop it."""
    cloud = Cloud(free_port(), folder, region)
    log = folder / "cloud.log"
    site_packages = [path for path in sys.path if path.endswith("site-packages")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            # The virtual environment's own interpreter would pass its modules on.
            [sys._base_executable, "-c", _EMULATOR, str(folder / "packages"), *site_packages],  # type: ignore[attr-defined]
            env={
                **cloud.environment,
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(cloud.port),
                "MINISTACK_REGION": region,
                "SERVICES": SERVICES,
                "LAMBDA_EXECUTOR": "local",
                "IOT_MTLS_ENABLED": "0",
                "SFTP_ENABLED": "0",
                "LOG_LEVEL": "WARNING",
                "PERSIST_STATE": "0",
            },
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(process, cloud, log)
        yield cloud
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(process: subprocess.Popen[bytes], cloud: Cloud, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            cloud.client("s3").list_buckets()
        except BotoCoreError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text())


@contextmanager
def custom_domain(cloud: Cloud) -> Iterator[str]:
    """Yields an address whose root is the stage of the API, as a custom domain's is.

    The emulator identifies APIs by a host name that no resolver knows, hence this relay. Unlike AWS it leaves the
    stage out of the path that it reports, which is right for a custom domain only.
    """

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {**dict(self.headers.items()), "Host": cloud.api_host}
            # A client that leaves early, such as an agent that is ended, must not leave this connection open.
            with closing(HTTPConnection("127.0.0.1", cloud.port, timeout=40)) as upstream:
                upstream.request(self.command, f"/{STAGE}{self.path}", body or None, _end_to_end(headers))
                answer = upstream.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                        # Browsers reach the real gateway by TLS; the tests use none.
                        self.send_header(name, value.replace("; Secure", "") if name.lower() == "set-cookie" else value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = relay  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in ("connection", "content-length")}
