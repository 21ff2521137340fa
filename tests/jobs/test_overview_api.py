"""``GET /overview``: what a frontend shows at a glance."""

from datetime import timedelta

import pytest

from apps.audit.services.sealing import audit_seal
from apps.jobs.selectors.deployments import deployment_last
from apps.secrets.services.rotation_plans import rotation_configure
from controlplane.lib import clock
from tests.audit.sealed import copies_clear
from tests.clients import Client
from tests.conftest import ADMIN, person
from tests.dashboard.scene import Scene
from tests.jobs.deployments import DEPLOYS, deployer, deployment_of
from tests.metering import dynamodb_calls
from tests.secrets.conftest import secret_made


@pytest.fixture
def deployed(server: str) -> str:
    """The id of a deployment that has completed. It is the second one."""
    worker = deployer()
    for _ in range(2):
        run = worker.run(DEPLOYS)
        worker.finish(worker.take())
    return str(deployment_of(run).deployment_id)


def test_an_admin_sees_everything_at_a_glance(server: str, deployed: str) -> None:
    scene = Scene()
    scene.pipeline()
    scene.agent()
    scene.job()
    secret_made()
    rotation_configure(
        actor=ADMIN, secret_id="PYPI_TOKEN", rotator="generated", schedule={"every_days": 7, "at": "03:00"}
    )
    copies_clear()
    with clock.shifted(timedelta(minutes=4)):
        audit_seal(seconds=9)
        said = person(server, "admin").get("/overview").json()
    assert said["agents"] | {"healthy": 0, "total": 0} == {
        "total": 0, "healthy": 0, "unhealthy": 0, "dead": 0, "draining": 0
    }  # fmt: skip
    assert (said["jobs"]["waiting"], said["jobs"]["is_lower_bound"]) == (1, False)
    assert (said["today"]["failed"], said["today"]["error_rate"]) == (0, 0.0)
    assert said["last_deployment"]["deployment_id"] == deployed
    assert said["last_deployment"]["status"] == "completed"
    assert said["next_rotation"]["secret_id"] == "PYPI_TOKEN"
    assert said["audit_today"]["events"] > said["audit_today"]["of_users"] > 0


def test_what_a_viewer_may_not_see_is_null(viewer_client: Client) -> None:
    said = viewer_client.get("/overview").json()
    assert (said["next_rotation"], said["audit_today"], said["last_deployment"]) == (None, None, None)
    assert (said["agents"]["total"], said["today"]["error_rate"]) == (0, None)


@pytest.fixture
def viewer_client(server: str) -> Client:
    return person(server, "viewer")


def test_a_deployment_that_only_waits_is_not_the_last_one(deployed: str) -> None:
    with dynamodb_calls() as metering:
        assert str(getattr(deployment_last(), "deployment_id", None)) == deployed
    assert metering.operations == ["Query", "BatchGetItem"]


def test_years_without_a_deployment_cost_three_queries(tables: None) -> None:
    with clock.shifted(timedelta(days=3 * 365)), dynamodb_calls() as metering:
        assert deployment_last() is None
    assert metering.operations == ["Query"] * 3
