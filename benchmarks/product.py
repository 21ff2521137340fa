"""The product as `manage.py local` runs it, for measurements."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_START_SECONDS = 120.0


class Product:
    """A running `manage.py local` with its state in a directory."""

    def __init__(self, process: "subprocess.Popen[bytes]", state: Path) -> None:
        self.process = process
        self.state = state
        self.credentials: dict[str, str] = {}

    def wait_until_ready(self, agents: int) -> None:
        """Wait until all agents have enrolled."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise SystemExit(f"manage.py local ended with exit code {self.process.returncode}")
            return len(list(self.state.glob("agents/*/identity.json"))) == agents

        wait_until(ready, _START_SECONDS)
        self.credentials = json.loads((self.state / "credentials.json").read_text())

    @property
    def url(self) -> str:
        """The address of the control plane."""
        return self.credentials["url"]

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request as the local admin. Returns the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {self.credentials['api_token']}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def pipeline_save(self, name: str, repository: Path, definition: str) -> None:
        """Make a pipeline with its definition on the server."""
        body = {"repository": f"file://{repository}", "default_ref": "main", "definition": definition}
        self.request("PUT", f"/pipelines/{name}", body)


@contextmanager
def running_product(checkout: Path, state: Path, agents: int) -> Iterator[Product]:
    """Start the product of a checkout with so many agents, and end it."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "local", "--port", "0", "--agents", str(agents), "--state-dir", str(state)],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        product = Product(process, state)
        product.wait_until_ready(agents)
        yield product
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def repository_make(folder: Path) -> Path:
    """Make a git repository with one commit on its branch main."""
    folder.mkdir()
    (folder / "file").write_text("content\n")
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "file"],
        ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.org", "commit", "--quiet", "--message=one"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not happen within {seconds:.0f} s")
        time.sleep(0.2)
