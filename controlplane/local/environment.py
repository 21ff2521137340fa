"""The environment of the processes of `manage.py local`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from controlplane.local.state import StateDirectory

# The person's own AWS account must be out of reach. A surrounding make must not affect the make of a job, and agents
# get their settings from us.
_LEFT_OUT = ("AWS_", "BOTO_", "HYBRID_CI_", "MAKE", "MFLAGS", "DJANGO_SETTINGS_MODULE", "STAGE", "PYTEST_")
_LOOPBACK = "127.0.0.1,localhost"


def base_environment(surroundings: Mapping[str, str]) -> dict[str, str]:
    """The person's environment without variables that affect us or jobs. Local calls bypass any proxy."""
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
        "ARTIFACT_DIR": str(state.artifacts),
        "DEFAULT_PIPELINE": "self",
        # Calls cost nothing here, and a job in a trial should start at once.
        "AGENT_CHECK_SECONDS": "2",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{database_port}",
        "AWS_REGION": "eu-central-1",
        # The emulator requires credentials, and accepts any.
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        # An environment file of the person must not add settings.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def agent_settings(state_dir: Path, *, url: str, token: str, name: str) -> dict[str, str]:
    """The settings of an agent. The token is a variable, because every user can read command lines."""
    return {
        "HYBRID_CI_URL": url,
        "HYBRID_CI_TOKEN": token,
        "HYBRID_CI_STATE_DIR": str(state_dir),
        "HYBRID_CI_NAME": name,
        "HYBRID_CI_REGION": "local",
        "HYBRID_CI_SLOTS": "2",
        # So that the pipeline of this repository finds the installed tools.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
