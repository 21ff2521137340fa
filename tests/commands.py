"""``manage.py`` in this process, and as a process of its own with an environment of its own."""

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

from django.conf import settings
from django.core.management import execute_from_command_line


def command(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, under its settings and so on its tables. Costs no start of Python and Django."""
    output, errors, code = StringIO(), StringIO(), 0
    with (
        patch.dict(os.environ, environment),
        patch("sys.stdin", StringIO(stdin)),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            execute_from_command_line(["manage.py", *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


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
