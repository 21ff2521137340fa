"""What the language of pipeline files fixes: paths, limits, names and their forms. It loads fast."""

from __future__ import annotations

import re

# The file in which a repository keeps its pipeline definition.
DEFINITION_PATH = ".hybrid-ci.yml"

# The page of the control plane that shows, for the formats of other products, what to write instead.
GUIDE_PATH = "/docs/other-ci"

# Of a file, and of the steps and settings that one of its jobs stores as JSON. The latter are longer than the text,
# since they have names for unnamed steps and escapes for control characters.
MAX_BYTES = 512 * 1024
MAX_STORED_BYTES = 128 * 1024

MAX_JOBS = 1000
# Of all nodes of a run together: each cell of a matrix needs each cell of another one.
MAX_NEEDS = 50_000
MAX_STEPS = 100
MAX_STEP_NAME = 100
MAX_NODE_NAME = 100
MAX_LABELS = 20
MAX_RETRIES = 10
DEFAULT_RETRIES = 2
MAX_TIMEOUT_SECONDS = 24 * 3600
# Of a job whose definition has no `timeout`.
DEFAULT_TIMEOUT_SECONDS = 3600
HIGHEST_PRIORITY = 100
MAX_OUTPUTS = 32

# The one job of a file in the form `steps:`.
MAIN_JOB = "main"
# The first job of a run of several: it reads the file. No job of a file can have its name.
FIRST_NODE = "pipeline"

# Agents that can run containers have this label.
CONTAINER_LABEL = "container"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,62}")
# Continues "must be" in a message.
LABEL_FORM = "1 to 63 letters, digits and . _ : / = -, beginning with a letter or digit"
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
# Of a secret, which is the name of a variable, too: none that programs, shells or the agent use for something else.
SECRET_NAME = re.compile(
    r"(?!(?:HYBRID_CI_|BASH_|DYLD_|GIT_CONFIG_|LC_|LD_)"
    r"|(?:CI|BASHOPTS|ENV|EUID|HOME|IFS|LANG|LANGUAGE|LOGNAME|OLDPWD|PATH|PPID|PS[124]|PWD|PYTHONPATH|SHELL|SHELLOPTS"
    r"|SHLVL|TMPDIR|TZ|UID|USER)\Z)[A-Z][A-Z0-9_]{0,63}"
)
SECRET_NAME_FORM = (
    "1 to 64 capital letters, digits and _, beginning with a letter, and no variable that shells or the agent set, "
    "such as PATH, CI and HYBRID_CI_…"
)
# Of jobs, axes and parameters: what an expression can name.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
NAME_FORM = "1 to 63 letters, digits, - and _, beginning with a letter or _"
ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,54}")
ENVIRONMENT_FORM = "1 to 55 letters, digits and . _ -, beginning with a letter or digit"
# [registry[:port]/]name[:tag][@digest]; never something that podman takes for an option, a path or a transport.
_IMAGE_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?=.{{1,255}}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
IMAGE_FORM = "an image, as in python:3.12-slim or registry.example.org/team/image:1"

# What a need asks of the other job.
NEED_RESULTS = ("success", "any", "failure")
# What happens to a pull request, in the words of `on`.
PULL_REQUEST_TYPES = ("opened", "synchronize", "reopened", "closed")
