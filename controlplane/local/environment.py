"""What the processes of `manage.py local` find in their environment."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from controlplane.local.state import StateDirectory

# The person's own AWS account must be out of reach; a surrounding make must not take part in a job's make, and agents
# get their settings from us.
_LEFT_OUT = ("AWS_", "BOTO_", "HYBRID_CI_", "MAKE", "MFLAGS", "DJANGO_SETTINGS_MODULE", "STAGE", "PYTEST_")
_LOOPBACK = "127.0.0.1,localhost"


def base_environment(surroundings: Mapping[str, str]) -> dict[str, str]:
    """The person's environment without what concerns neither us nor jobs; calls on this machine go past any proxy."""
    kept = {name: value for name, value in surroundings.items() if not name.startswith(_LEFT_OUT)}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = f"{kept[name]},{_LOOPBACK}" if kept.get(name) else _LOOPBACK
    return kept


def control_plane_settings(state: StateDirectory, *, database_port: int) -> dict[str, str]:
    """Every setting that depends on the state directory, by the names of `.env.example`."""
    return {
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        "STAGE": "local",
        "SECRET_KEY": state.secret_key(),
        "KEY_FILE": str(state.encryption_key),
        "LOG_DIR": str(state.job_logs),
        "DEFAULT_PIPELINE": "self",
        # Nobody pays for calls here, and who tries a job does not want to wait for its start.
        "AGENT_CHECK_SECONDS": "2",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{database_port}",
        "AWS_REGION": "eu-central-1",
        # The emulator asks for some, and takes any.
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        # No file of the person's may add to these.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def agent_settings(state_dir: Path, *, url: str, token: str, name: str) -> dict[str, str]:
    """What an agent is told; the token by a variable, since command lines are there for all to read."""
    return {
        "HYBRID_CI_URL": url,
        "HYBRID_CI_TOKEN": token,
        "HYBRID_CI_STATE_DIR": str(state_dir),
        "HYBRID_CI_NAME": name,
        "HYBRID_CI_REGION": "local",
        "HYBRID_CI_SLOTS": "2",
        # So that the pipeline of this very repository finds the tools that are installed already.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
