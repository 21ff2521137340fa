"""The rows of environments: those of deployments to one that nothing is known of, and their limit."""

import pytest

from apps.jobs.models import SPACE, Environment
from apps.jobs.selectors.environments import environment_find, environment_get, environment_list
from apps.jobs.services.environment_records import environment_make
from controlplane.lib.errors import Conflict
from tests.jobs.deployments import DEPLOYS, deployer, environment
from tests.jobs.runs import states


def test_what_the_end_of_a_deployment_leaves_of_a_missing_row_is_no_environment(tables: None) -> None:
    """As after a restore of tables from different moments."""
    Environment(SPACE, "production").update(actions=[Environment.holders.delete({"x"}), Environment.turn.set(3)])
    assert environment_find("production") is None
    assert environment_list() == []
    environment()
    assert environment_get("production").wait_seconds == 0


def test_there_is_a_limit_to_environments(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.jobs.services.environment_records.MAX_ENVIRONMENTS", 1)
    worker = deployer()
    environment("other")
    with pytest.raises(Conflict) as refused:
        environment()
    assert refused.value.code == "too_many_environments"
    # A job that names another one cannot make it either.
    assert states(worker.run(DEPLOYS)) == {"ship": "failed"}


def test_what_is_there_already_is_not_made_again(tables: None) -> None:
    environment(wait_seconds=60)
    environment_make(name="production")
    assert environment_get("production").wait_seconds == 60
