"""``manage.py`` as a process of its own, with an environment of its own."""

import os
import subprocess
import sys

from django.conf import settings


def manage(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command under the product's settings, in the stage "local" unless `environment` says otherwise."""
    return subprocess.run(
        [sys.executable, *(["manage.py"] if arguments[0] != "-c" else []), *arguments],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "STAGE": "local", **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
