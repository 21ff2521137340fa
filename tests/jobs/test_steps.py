"""The steps of a job before they run."""

from apps.jobs.services.steps import steps_of


def test_each_step_of_a_definition_waits_in_its_order() -> None:
    definition = {"steps": [{"name": "lint", "run": "make lint"}, {"name": "test", "run": "make test"}]}
    assert steps_of(definition) == [{"name": "lint", "state": "pending"}, {"name": "test", "state": "pending"}]
