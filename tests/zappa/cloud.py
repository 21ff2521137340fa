"""An emulated AWS that runs the package, and the way to it that a custom domain would be."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError
from django.conf import settings

from tests.emulator import free_port

PROJECT = Path(settings.BASE_DIR)
REGION = "eu-central-1"
# Its own, so that nothing else of the emulator meets it.
STAGE = "test"
FUNCTION = f"hybrid-ci-cd-{STAGE}"
SERVICES = "apigateway,cloudformation,dynamodb,events,iam,kms,lambda,logs,s3,sts"


@dataclass
class Cloud:
    """The emulator, and the settings of a stage in it."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of programs that speak to this AWS: nothing of the person's own."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def stage_settings(self) -> dict[str, str]:
        """What the function finds in its environment; what would lie in KMS and S3 lies in files here."""
        return {
            "DJANGO_SETTINGS_MODULE": "controlplane.settings",
            "STAGE": STAGE,
            "SECRET_KEY": "only-for-tests-" + "x" * 50,
            "ALLOWED_HOSTS": ".localhost",
            "KEY_FILE": str(self.folder / "sealing.key"),
            "LOG_DIR": str(self.folder / "logs"),
            "AGENT_CHECK_SECONDS": "1",
            "DEFAULT_PIPELINE": "self",
        }

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def zappa(self, *arguments: str) -> str:
        """Run Zappa's command with the project's settings and one more stage; returns what it says."""
        file = self.folder / "zappa_settings.json"
        stages = json.loads((PROJECT / "zappa_settings.json").read_text())
        stages[STAGE] = {
            "extends": "staging",
            "s3_bucket": "hybrid-ci-cd-packages-test",
            "role_name": f"hybrid-ci-cd-function-{STAGE}",
            # The emulator would let the function import what is installed for tests.
            "aws_environment_variables": {**self.stage_settings, "PYTHONPATH": ""},
        }
        file.write_text(json.dumps(stages))
        command, *rest = arguments
        done = subprocess.run(
            [sys.executable, "-m", "zappa.cli", command, STAGE, *rest, "--settings_file", str(file)],
            cwd=PROJECT,
            env={**self.environment, "VIRTUAL_ENV": sys.prefix},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> Any:
        """Run code of the product against this AWS, as an operator at home would; returns the JSON that it prints."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{code}"],
            cwd=PROJECT,
            env={**self.environment, **self.stage_settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@contextmanager
def running_cloud(folder: Path) -> Iterator[Cloud]:
    """Start the emulator on loopback with all that a deployment needs, and stop it."""
    cloud = Cloud(free_port(), folder)
    log = folder / "cloud.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            # Not the environment's own interpreter: the functions that it starts shall find only their package.
            [sys._base_executable, "-m", "ministack"],  # type: ignore[attr-defined]
            env={
                **cloud.environment,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("site-packages")),
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(cloud.port),
                "MINISTACK_REGION": REGION,
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
def custom_domain(port: int, api_id: str) -> Iterator[str]:
    """An address whose root is the stage of the API, as a custom domain's is. Yields it.

    The emulator tells APIs apart by a host name that no resolver knows, hence this relay; and unlike AWS it leaves the
    stage out of the path that it reports, which is right for a custom domain only.
    """

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {**dict(self.headers.items()), "Host": f"{api_id}.execute-api.localhost:{port}"}
            upstream = HTTPConnection("127.0.0.1", port, timeout=40)
            upstream.request(self.command, f"/{STAGE}{self.path}", body or None, _end_to_end(headers))
            answer = upstream.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            upstream.close()

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = relay  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Not worth a line in the tests' output."""

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
