"""A breach of each rule is planted in a copy of the code, and the rule refuses it."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture.contracts import CONTRACTS, ROOT
from tests.architecture.records import breaches

PACKAGES = ("agent", "apps", "cli/src/hci", "controlplane")
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Breach:
    """Lines at the end of a file of the copy, which may be a new one, and what the contract then says."""

    contract: str
    file: str
    lines: str
    said: str

    @classmethod
    def importing(cls, contract: str, file: str, imported: str) -> "Breach":
        importer = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        # Lazy imports count.
        return cls(contract, file, f"def planted():\n    import {imported}", f"{importer} -> {imported} (")


BREACHES = [
    # The order of apps.
    Breach.importing("Apps in order", "apps/audit/selectors.py", "apps.accounts.selectors"),
    Breach.importing("Apps in order", "apps/accounts/services/users.py", "apps.jobs.services"),
    Breach.importing("Apps in order", "apps/pipelines/services/pipelines.py", "apps.agents.selectors"),
    Breach.importing("Apps in order", "apps/agents/services/enrolment.py", "apps.pipelines.selectors"),
    Breach("Apps in order", "apps/planted/__init__.py", "", "- apps.planted"),
    # The parts of an app.
    Breach.importing("Parts of an app in order", "apps/jobs/models/job.py", "apps.jobs.services"),
    Breach.importing("Parts of an app in order", "apps/jobs/selectors/jobs.py", "apps.jobs.services"),
    Breach.importing("Parts of an app in order", "apps/agents/services/keys.py", "apps.agents.api"),
    Breach.importing("Parts of an app in order", "apps/jobs/api/jobs.py", "apps.jobs.admin"),
    Breach("Parts of an app in order", "apps/jobs/planted.py", "", "- apps.jobs.planted"),
    Breach.importing(
        "Services know nothing of authentication", "apps/jobs/services/jobs.py", "apps.accounts.authentication"
    ),
    Breach.importing("What is below services calls none", "apps/jobs/selectors/logs.py", "apps.agents.services"),
    Breach.importing("What is below services calls none", "apps/jobs/models/log.py", "apps.agents.services"),
    Breach.importing(
        "Records and what is below them call no selector and no policy", "apps/jobs/states.py", "apps.agents.selectors"
    ),
    # Records.
    Breach.importing("Records of accounts", "apps/accounts/views/tokens.py", "apps.accounts.models"),
    Breach.importing("Records of accounts", "apps/jobs/services/jobs.py", "apps.accounts.models"),
    Breach.importing("Records of agents", "apps/jobs/selectors/jobs.py", "apps.agents.models"),
    Breach.importing("Records of audit", "apps/jobs/admin.py", "apps.audit.models"),
    Breach.importing("Records of jobs", "apps/jobs/api/jobs.py", "apps.jobs.models"),
    Breach.importing("Records of jobs", "apps/dashboard/views/jobs.py", "apps.jobs.models"),
    Breach.importing("Records of notifications", "apps/jobs/services/jobs.py", "apps.notifications.models"),
    Breach.importing("Records of pipelines", "apps/pipelines/serializers.py", "apps.pipelines.models"),
    Breach.importing("Records of secrets", "apps/secrets/serializers.py", "apps.secrets.models"),
    Breach.importing("Records of sources", "apps/jobs/services/jobs.py", "apps.sources.models"),
    Breach.importing("What accounts keeps to itself", "apps/jobs/api/jobs.py", "apps.accounts.session_store"),
    Breach.importing("What agents keeps to itself", "apps/dashboard/views/agents.py", "apps.agents.api"),
    Breach.importing("What agents send", "apps/dashboard/views/agents.py", "apps.agents.serializers"),
    Breach.importing("How pipelines find connections", "apps/jobs/services/jobs.py", "apps.pipelines.connections"),
    Breach.importing("Pages of audit events", "apps/agents/admin.py", "apps.audit.admin"),
    Breach.importing("What audit keeps to itself", "apps/accounts/api/tokens.py", "apps.audit.serializers"),
    Breach.importing("What jobs keeps to itself", "apps/dashboard/views/jobs.py", "apps.jobs.api"),
    Breach.importing("What notifications keeps to itself", "apps/jobs/services/jobs.py", "apps.notifications.senders"),
    Breach.importing("What pipelines keeps to itself", "apps/jobs/services/attempts.py", "apps.pipelines.serializers"),
    Breach.importing("What secrets keeps to itself", "apps/jobs/services/attempts.py", "apps.secrets.serializers"),
    Breach.importing("What sources keeps to itself", "apps/jobs/services/jobs.py", "apps.sources.serializers"),
    # What the parts may know.
    Breach.importing("Only services write", "apps/jobs/api/jobs.py", "controlplane.nosql.transaction"),
    Breach.importing("Only services write", "apps/dashboard/views/jobs.py", "controlplane.nosql.transaction"),
    Breach.importing("Only services write", "apps/agents/selectors/agents.py", "controlplane.nosql.connection"),
    Breach.importing("Only services write", "apps/agents/admin.py", "controlplane.nosql.transaction"),
    Breach.importing("Who knows records", "apps/jobs/api/jobs.py", "controlplane.nosql.record"),
    Breach.importing(
        "Who knows Django's admin over records", "apps/jobs/services/jobs.py", "controlplane.nosql.admin.site"
    ),
    Breach.importing("Who looks after tables", "apps/jobs/services/jobs.py", "controlplane.nosql.tables"),
    Breach.importing(
        "Who asks whether the database answers", "apps/jobs/services/jobs.py", "controlplane.nosql.readiness"
    ),
    Breach.importing("Who knows the database at all", "apps/dashboard/chart.py", "controlplane.nosql.query"),
    Breach.importing("Who knows PynamoDB", "apps/jobs/services/jobs.py", "pynamodb"),
    Breach.importing("Who knows AWS", "apps/jobs/services/logs.py", "boto3"),
    Breach.importing("Who knows AWS", "apps/jobs/models/log.py", "botocore"),
    Breach.importing("Who knows HTTP", "apps/jobs/services/jobs.py", "controlplane.http.problems"),
    Breach.importing("Who knows Django REST framework", "apps/jobs/services/jobs.py", "rest_framework"),
    Breach.importing("Who knows Django REST framework", "apps/dashboard/views/jobs.py", "rest_framework"),
    # The rooms of the control plane.
    Breach.importing("Rooms of the control plane in order", "controlplane/lib/ids.py", "controlplane.nosql.record"),
    Breach.importing(
        "Rooms of the control plane in order", "controlplane/nosql/record.py", "controlplane.http.problems"
    ),
    Breach("Rooms of the control plane in order", "controlplane/planted.py", "", "- controlplane.planted"),
    Breach.importing("Who knows apps", "controlplane/lib/ids.py", "apps.accounts.policies"),
    Breach.importing("Who knows apps", "controlplane/nosql/record.py", "apps.accounts.policies"),
    Breach.importing("Who knows apps", "controlplane/http/views.py", "apps.jobs.selectors"),
    Breach.importing(
        "Who knows how work is observed", "apps/jobs/services/jobs.py", "controlplane.observability.works"
    ),
    Breach.importing("Who knows Powertools", "apps/jobs/services/jobs.py", "aws_lambda_powertools"),
    Breach.importing(
        "Who knows what starts the control plane", "apps/jobs/services/jobs.py", "controlplane.lambda_entry"
    ),
    Breach.importing("Who knows the handler of requests", "apps/jobs/services/jobs.py", "controlplane.lambda_handler"),
    Breach.importing("Who knows the checks of settings", "apps/jobs/services/jobs.py", "controlplane.checks"),
    Breach.importing("Who knows the application", "apps/jobs/services/jobs.py", "controlplane.wsgi"),
    Breach.importing("Who knows the tasks of each minute", "apps/jobs/services/jobs.py", "controlplane.schedules"),
    Breach.importing(
        "Who reads settings other than by django.conf", "apps/jobs/services/jobs.py", "controlplane.settings"
    ),
    Breach.importing(
        "What is shipped knows no tool of deployment",
        "controlplane/management/commands/sweep.py",
        "controlplane.deployment.live",
    ),
    Breach.importing(
        "What is shipped knows no infrastructure", "apps/jobs/services/logs.py", "controlplane.infrastructure.names"
    ),
    Breach.importing(
        "What is shipped knows no tool for one machine", "controlplane/schedules.py", "controlplane.local.state"
    ),
    Breach.importing(
        "What is shipped needs no package that only developers have", "apps/jobs/services/jobs.py", "ministack"
    ),
    # The agent.
    Breach.importing("The agent needs nothing but the standard library", "agent/worker.py", "controlplane.lib.clock"),
    Breach.importing("The agent needs nothing but the standard library", "agent/client.py", "requests"),
    Breach.importing("The agent needs nothing but the standard library", "agent/worker.py", "yaml"),
    Breach.importing(
        "What opens and masks secrets knows nothing of the agent around it", "agent/masking.py", "agent.protocol"
    ),
    Breach.importing("Who knows the agent", "apps/jobs/services/jobs.py", "agent.protocol"),
    Breach.importing("Who knows the agent", "apps/jobs/services/attempts.py", "agent.pipeline.graph"),
    # The command line.
    Breach.importing("The command line knows nothing of the product", "hci/client.py", "controlplane.lib.ids"),
    Breach.importing("The command line knows nothing of the product", "hci/commands/jobs.py", "apps.jobs.states"),
    Breach.importing("Who knows the command line", "controlplane/local/supervisor.py", "hci.client"),
    # Circles.
    Breach(
        "No circles",
        "controlplane/lib/clock.py",
        "def planted():\n    import controlplane.lib.ids",
        "No cycles are allowed in controlplane.lib.",
    ),
]


def _copy(folder: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / Path(package).name, ignore=_all_but_python)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    kept = [name for name in names if name.endswith(".py") or Path(folder, name).is_dir()]
    return [name for name in names if name == "__pycache__" or name not in kept]


def _plant(folder: Path, file: str, lines: str) -> None:
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as target:
        target.write(f"\n{lines}\n")


def _lint(folder: Path) -> tuple[int, dict[str, str]]:
    """The exit code of import-linter, and what it says of each contract that is broken."""
    done = subprocess.run(
        [BIN / "lint-imports", "--no-logo", "--no-cache"],
        cwd=folder,
        # A line that is broken could not be found.
        env={**os.environ, "COLUMNS": "1000", "PYTHONPATH": str(folder / "cli" / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    said: dict[str, str] = {}
    name = ""
    lines = done.stdout.partition("Broken contracts\n")[2].splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if line and set(following) == {"-"} and len(following) == len(line):
            name = line
        said[name] = said.get(name, "") + line + "\n"
    return done.returncode, said


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What import-linter says of a copy with all breaches in it, by contract."""
    copy = _copy(tmp_path_factory.mktemp("breaches"))
    for breach in BREACHES:
        _plant(copy, breach.file, breach.lines)
    code, found = _lint(copy)
    assert code == 1
    return found


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: f"{breach.contract}: {breach.file}")
def test_a_breach_is_refused_by_its_contract(said: dict[str, str], breach: Breach) -> None:
    assert breach.said in said.get(breach.contract, "")


def test_each_contract_refuses_a_breach() -> None:
    assert {contract["name"] for contract in CONTRACTS} == {breach.contract for breach in BREACHES}


def test_the_code_keeps_all_contracts() -> None:
    assert _lint(ROOT) == (0, {})


# --- what imports do not show ---------------------------------------------------------------------------------------

UNSEEN = [
    ("apps/jobs/selectors/jobs.py", "Job('x').save()", "Job('x').save writes"),
    ("apps/jobs/admin.py", "record.update(actions=[])", "record.update writes"),
    ("apps/dashboard/views/jobs.py", "job.delete()", "job.delete writes"),
    ("apps/jobs/api/jobs.py", "Transaction()", "Transaction writes"),
    ("apps/agents/management/commands/enrolment_token.py", "Agent.batch_write()", "Agent.batch_write writes"),
    ("apps/jobs/policies.py", "Job.find('x')", "Job.find reads"),
    ("apps/accounts/authentication.py", "ApiToken.by_user.query('x')", "ApiToken.by_user.query reads"),
    ("apps/jobs/models/job.py", "cls.find_many(['x'])", "cls.find_many reads"),
    ("apps/agents/admin.py", "Agent.scan()", "Agent.scan reads"),
    ("apps/accounts/session_store.py", "find_together()", "find_together reads"),
    ("controlplane/nosql/facade.py", "self.record.save()", "self.record.save writes"),
    ("apps/jobs/services/jobs.py", "from django.http import HttpRequest", "it knows HTTP requests"),
    ("apps/jobs/selectors/jobs.py", "from django import http", "it knows HTTP requests"),
    ("apps/accounts/services/users.py", "import django.shortcuts", "it knows HTTP requests"),
]


def test_the_code_reads_and_writes_records_where_it_may() -> None:
    assert breaches(ROOT) == []


def test_a_reader_a_writer_or_a_request_elsewhere_is_refused(tmp_path: Path) -> None:
    copy = _copy(tmp_path)
    for file, line, _said in UNSEEN:
        _plant(copy, file, line)
    found = [(text.split(":")[0], text.split(": ", 1)[1]) for text in breaches(copy)]
    assert sorted(found) == sorted((file, said) for file, _line, said in UNSEEN)


BANNED: Sequence[str] = tuple(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
)


@pytest.mark.parametrize("file", ["apps/jobs/services/jobs.py", "controlplane/nosql/record.py", "agent/worker.py"])
def test_the_wall_clock_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    for name in (file, "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in BANNED:
        # `datetime.date` and `datetime.datetime` are classes.
        imported, _, attribute = name.partition(".") if name.startswith("datetime") else name.rpartition(".")
        _plant(tmp_path, file, f"import {imported}\n{imported}.{attribute}()")
    done = subprocess.run(
        [BIN / "ruff", "check", "--no-cache", "--select", "TID251", "--output-format", "json", file],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(json.loads(done.stdout)) == len(BANNED)
