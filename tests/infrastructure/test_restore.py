"""Restoring a stage: the commands of docs/operations.md on the emulator, and the effects on sessions, tokens, jobs."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.management import call_command

from apps.accounts.services import api_token_create, api_token_verify, user_disable
from apps.accounts.services.api_tokens import api_token_revoke
from apps.agents.services import agents_mark_silent
from apps.audit.models import AuditRecord
from apps.jobs.selectors import job_get
from apps.jobs.services import job_cancel, job_create, job_retry, leases_expire
from controlplane.infrastructure.schema import TableSchema, table_schemas
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError
from controlplane.nosql.connection import shared_connection
from controlplane.nosql.record import table_name
from controlplane.nosql.tables import create_tables
from tests.accounts.browser import Browser
from tests.clients import Client
from tests.conftest import ADMIN, ada_create
from tests.faults.world import World
from tests.infrastructure.conftest import DEPLOYS, infrastructure
from tests.infrastructure.test_deployment import _EMPTY_ZIP, client
from tests.jobs.runs import Worker, graph_pipeline, states, status
from tests.polling import polled
from tests.properties.consistency import Everything

MANUAL = (Path(settings.BASE_DIR) / "docs" / "operations.md").read_text()
SECTION = MANUAL[MANUAL.index("\n## Restore\n") :].split("\n## ", 2)[1]
BLOCKS = [
    re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
]
SET_UP, KEEPING, FROM_MOMENT, FROM_BACKUP, COUNTING, SWITCHING, STARTING = BLOCKS

# The tables that it restores, and those that it leaves unchanged.
RESTORED = set(re.search(r'TABLES="(.*?)"', SET_UP)[1].split())
LEFT = {"audit", "audit-seals", "audit-tasks", "rate-limits", "oauth-states", "device-authorizations", "sessions"}
# A few tables are enough, because each takes a second to create. One has a TTL, one has indexes.
SOME = ("idempotency", "users")
SETTING = f'{SET_UP}\nTABLES="{" ".join(SOME)}"\n'


def test_the_manual_restores_every_table_or_says_that_it_does_not() -> None:
    assert {table.name for table in table_schemas()} == RESTORED | LEFT
    assert all(f"`{name}`" in SECTION for name in LEFT)


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(aws: str, tmp_path: Path) -> Callable[..., str]:
    """Runs the manual's blocks in one shell; returns their output."""
    program = tmp_path / "aws"
    tool = Path(__file__).with_name("aws_cli.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tool}" "$@"\n')
    program.chmod(0o755)

    def run(*blocks: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "AWS_DEFAULT_REGION": "eu-central-1"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def stage(aws: str) -> str:
    """Deploys staging with a function and empty tables. The number of the account."""
    infrastructure("deploy", "--stage", "staging", "--yes")
    for schema in table_schemas():
        if schema.ttl:
            # The emulator's CloudFormation does not set it.
            client("dynamodb").update_time_to_live(
                TableName=f"hybrid-ci-cd-{schema.name}-staging",
                TimeToLiveSpecification={"AttributeName": schema.ttl, "Enabled": True},
            )
    client("lambda").create_function(
        FunctionName="hybrid-ci-cd-staging",
        Role=f"arn:aws:iam::{aws}:role/hybrid-ci-cd-function-staging-eu-central-1",
        Runtime="python3.11",
        Handler="a.b",
        Code={"ZipFile": base64.b64decode(_EMPTY_ZIP)},
    )
    return aws


def schemas() -> dict[str, TableSchema]:
    return {schema.name: schema for schema in table_schemas() if schema.name in SOME}


def thing_put(name: str) -> None:
    for table, schema in schemas().items():
        item = {attribute: {"S": name} for attribute in schema.key}
        client("dynamodb").put_item(TableName=f"hybrid-ci-cd-{table}-staging", Item=item)


def things(suffix: str = "") -> list[set[str]]:
    """The items in the tables that `thing_put` fills, or in tables of their names with this suffix."""
    return [
        {
            item[schema.key[0]]["S"]
            for item in client("dynamodb").scan(TableName=f"hybrid-ci-cd-{table}-staging{suffix}")["Items"]
        }
        for table, schema in schemas().items()
    ]


@DEPLOYS
@pytest.mark.nightly
def test_the_manuals_commands_bring_a_stage_back_to_a_backup(stage: str, shell: Callable[..., str]) -> None:
    dynamodb = client("dynamodb")
    thing_put("old")
    # A backup that a person has made by hand.
    shell(SETTING, KEEPING.replace("before-restore", "good"), STARTING)
    thing_put("since")
    key = client("kms").describe_key(KeyId="alias/hybrid-ci-cd-staging")["KeyMetadata"]["Arn"]

    counted = shell(SETTING, KEEPING, "NAME=good", FROM_BACKUP, COUNTING)
    assert "hybrid-ci-cd-users-staging 2\nhybrid-ci-cd-users-staging-restored 1\n" in counted
    stopped = client("lambda").get_function_concurrency(FunctionName="hybrid-ci-cd-staging")
    assert stopped["ReservedConcurrentExecutions"] == 0

    shell(SETTING, SWITCHING, STARTING)
    assert things() == [{"old"}, {"old"}]
    assert "ReservedConcurrentExecutions" not in client("lambda").get_function_concurrency(
        FunctionName="hybrid-ci-cd-staging"
    )
    for schema in schemas().values():
        name = f"hybrid-ci-cd-{schema.name}-staging"
        found = dynamodb.describe_table(TableName=name)["Table"]
        assert found["DeletionProtectionEnabled"] is True, name
        assert {index["IndexName"] for index in found.get("GlobalSecondaryIndexes") or ()} == {
            index.name for index in schema.indexes
        }
        recovery = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        assert recovery["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED", name
        ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert ttl.get("AttributeName") == schema.ttl, name
        tags = dynamodb.list_tags_of_resource(ResourceArn=found["TableArn"])["Tags"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"project": "hybrid-ci-cd", "stage": "staging"}
    # The stack has not changed.
    assert "No changes." in infrastructure("diff", "--stage", "staging")
    assert key == client("kms").describe_key(KeyId="alias/hybrid-ci-cd-staging")["KeyMetadata"]["Arn"]


@DEPLOYS
@pytest.mark.slow
def test_the_manuals_commands_restore_a_point_in_time_next_to_the_existing_tables(
    stage: str, shell: Callable[..., str]
) -> None:
    thing_put("old")
    shell(SETTING, FROM_MOMENT)
    # The emulator restores the current state, whatever the time.
    assert things("-restored") == things() == [{"old"}, {"old"}]
    existing = set(client("dynamodb").list_tables()["TableNames"])
    assert {f"hybrid-ci-cd-{name}-staging-restored" for name in SOME} <= existing


# --- the effects ----------------------------------------------------------------------------------------------------


class Rewind:
    """A copy of the tables that the manual restores."""

    def __init__(self) -> None:
        self._arns = {
            table_name(name): self._dynamodb.create_backup(TableName=table_name(name), BackupName="then")[
                "BackupDetails"
            ]["BackupArn"]
            for name in RESTORED
        }

    @property
    def _dynamodb(self) -> Any:
        return shared_connection().client

    def restore(self, *tables: str) -> None:
        """Restore the copy, or these tables of it, and forget all caches."""
        names = {table_name(name) for name in tables or RESTORED}
        for name, arn in self._arns.items():
            if name not in names:
                continue
            self._dynamodb.delete_table(TableName=name)
            self._dynamodb.restore_table_from_backup(TargetTableName=name, BackupArn=arn)
        list(create_tables())
        _caches_forget()


def _caches_forget() -> None:
    """Forget all caches, as a new process would."""
    from apps.agents.selectors import identities

    cache.clear()
    identities._identities.clear()


@pytest.fixture
def world(server: str) -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_a_session_ended_since_the_backup_is_valid_until_the_secret_key_changes(
    world: World, server: str, settings: Any
) -> None:
    user = ada_create("operator")
    browser = Browser(server)
    browser.sign_in()
    then = Rewind()
    user_disable(actor=SYSTEM, user_id=user.user_id)
    assert not browser.signed_in
    then.restore()
    assert browser.get("/account/devices").status_code == 200
    settings.SECRET_KEY = "another-" + "y" * 50
    assert not browser.signed_in


def test_an_api_token_that_was_revoked_since_is_back_and_the_trail_names_it(world: World, server: str) -> None:
    user = ada_create("admin")
    token, secret = api_token_create(user=user, name="ci", actor=SYSTEM)
    then = Rewind()
    api_token_revoke(token=token, actor=ADMIN)
    with pytest.raises(ApplicationError):
        api_token_verify(secret)
    then.restore()
    assert Client(server, secret).get("/jobs").status_code == 200
    (record,) = [record for record in AuditRecord.scan() if record.action == "api_token.revoked"]
    assert token.token_id in record.target


def test_a_job_that_ended_since_the_backup_runs_again_as_its_next_attempt(world: World) -> None:
    job_id = world.running()
    then = Rewind()
    then.restore()
    with polled(50):
        agents_mark_silent()
        assert leases_expire() == 1
        job = job_get(job_id)
        assert (job.status, int(job.attempt)) == ("queued", 1)
        (assignment,) = world.heartbeat().assignments
        assert (assignment.job_id, assignment.attempt) == (job_id, 2)


def test_a_job_created_since_the_backup_is_created_again_when_a_client_repeats_the_request(world: World) -> None:
    then = Rewind()
    lost = job_create(actor=ADMIN, pipeline="self", idempotency_key="once")
    then.restore()
    with pytest.raises(ApplicationError):
        job_get(lost.job_id)
    again = job_create(actor=ADMIN, pipeline="self", idempotency_key="once")
    assert again.job_id != lost.job_id
    assert job_get(again.job_id).status == "queued"


@pytest.fixture
def queue_lost(world: World) -> str:
    """A queued job whose entry the restore has lost: the queue's table is from a moment before the job."""
    then = Rewind()
    job_id = world.job()
    then.restore("queue")
    assert world.heartbeat().assignments == []
    return job_id


def test_a_queued_job_that_lost_its_entry_is_cancelled_and_retried_as_the_manual_says(
    world: World, queue_lost: str
) -> None:
    assert "cancel and retry a job that stays `queued`" in " ".join(SECTION.split())
    assert job_cancel(actor=ADMIN, job_id=queue_lost).status == "cancelled"
    again = job_retry(actor=ADMIN, job_id=queue_lost)
    assert [assignment.job_id for assignment in world.heartbeat().assignments] == [again.job_id]


def test_the_sweep_heals_a_queue_that_was_restored_to_another_moment_than_the_jobs(
    world: World, queue_lost: str
) -> None:
    call_command("sweep")
    assert [assignment.job_id for assignment in world.heartbeat().assignments] == [queue_lost]
    assert Everything.read().inconsistencies() == []


def test_entries_of_jobs_that_the_restore_has_undone_hold_up_no_other(world: World) -> None:
    then = Rewind()
    world.job()
    then.restore("jobs", "heartbeats", "summary", "idempotency")
    waiting = world.job()
    assert [assignment.job_id for assignment in world.heartbeat().assignments] == [waiting]
    assert [entry.position for entry in Everything.read().entries] == []


SHIP = "jobs: {ship: {concurrency: {group: prod}, steps: [{run: make}]}}"


@pytest.fixture
def worker(world: World) -> Worker:
    graph_pipeline()
    return Worker(world.agent)


def test_runs_and_the_line_of_their_group_go_on_as_they_were(worker: Worker) -> None:
    runs = [worker.run(SHIP) for _ in range(2)]
    then = Rewind()
    for _ in runs:
        worker.finish(worker.take())
    then.restore()
    for expected in (["queued", "waiting"], ["completed", "queued"]):
        assert [states(run_id)["ship"] for run_id in runs] == expected
        worker.finish(worker.take())
    assert {status(run_id) for run_id in runs} == {"completed"}


def test_a_run_that_misses_the_end_of_a_job_is_started_anew_in_another_group_as_the_manual_says(worker: Worker) -> None:
    assert "start it anew" in SECTION
    assert "give the group another name" in SECTION
    run_id = worker.run(SHIP)
    then = Rewind()
    worker.finish(worker.take())
    then.restore("runs", "groups")
    call_command("sweep")
    assert (status(run_id), states(run_id)) == ("running", {"ship": "queued"})
    assert states(worker.run(SHIP)) == {"ship": "waiting"}
    assert states(worker.run(SHIP.replace("prod", "live"))) == {"ship": "queued"}
