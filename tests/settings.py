"""The product's settings for a test process: its own stage (so its own tables) and keys that are no secret."""

import os
import sys
import tempfile
from pathlib import Path

_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
_state = Path(tempfile.mkdtemp(prefix="hybrid-ci-test-"))

# The tests start hundreds of processes. Python compiles the modules once for all of them, also where a container image
# turns bytecode off.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

os.environ.update(
    STAGE="test",
    SECRET_KEY="only-for-tests-" + "x" * 50,
    KEY_FILE=str(_state / "sealing.key"),
    LOG_DIR=str(_state / "logs"),
    ARTIFACT_DIR=str(_state / "artifacts"),
    DEFAULT_PIPELINE="self",
    AGENT_CHECK_SECONDS="1",
    ALLOWED_HOSTS="127.0.0.1,localhost,testserver",
    AWS_REGION="eu-central-1",
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    # Until the emulator of this process runs, nothing may reach AWS.
    AWS_ENDPOINT_URL="http://127.0.0.1:1",
    AWS_EC2_METADATA_DISABLED="true",
)

from controlplane.settings import *  # noqa: E402, F403

STATE_DIR = _state
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
