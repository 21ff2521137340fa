"""The pages of schedules."""

from datetime import timedelta
from typing import Any

import pytest

from apps.jobs.services import schedules_start
from apps.pipelines.selectors import schedule_find, schedule_get
from apps.pipelines.services import pipeline_pause, pipeline_save, schedule_change
from controlplane.lib import clock
from tests.clients import Client
from tests.conftest import ADMIN
from tests.dashboard.scene import Scene
from tests.dashboard.test_pipelines import errors_of, send
from tests.dashboard.test_tests import words
from tests.pipelines.schedules import ID, scheduled

LIST = "/dashboard/pipelines/self/schedules"
NEW = {"name": "nightly", "cron": "30 3 * * 1-5", "zone": "Europe/Berlin", "git_ref": "", "parameters": ""}


@pytest.fixture(autouse=True)
def _pipeline(scene: Scene) -> None:
    scene.pipeline()


def test_a_schedule_is_added_shown_changed_paused_and_deleted_on_its_pages(operator: Client) -> None:
    assert "No schedules yet" in operator.get(LIST).text
    assert f'href="{LIST}"' in operator.get("/dashboard/pipelines/self").text
    assert send(operator, "pipelines/self/new-schedule", **NEW, only_if_changed="on") == (302, LIST)
    page = words(operator.get(LIST).text)
    assert "At 03:30 on Monday through Friday (Europe/Berlin)" in page
    assert "only if something changed" in page
    assert page.count(", 03:30") == 3
    edit = f"schedules/{ID}"
    assert send(operator, edit, **NEW, revision="1") == (302, LIST)
    assert not schedule_get(ID).only_if_changed
    assert send(operator, f"{edit}/pause") == (302, LIST)
    page = words(operator.get(LIST).text)
    assert "Paused" in page
    assert ", 03:30" not in page
    assert send(operator, f"{edit}/resume") == (302, LIST)
    assert send(operator, f"{edit}/delete") == (302, LIST)
    assert schedule_find(ID) is None


def test_a_mistake_is_shown_at_its_field_and_nothing_is_lost(operator: Client) -> None:
    status, page = send(operator, "pipelines/self/new-schedule", **NEW | {"cron": "61 3 * * *", "parameters": "x"})
    assert (status, errors_of(page, "parameters")) == (422, "Line 1 is not of the form name=value.")
    status, page = send(operator, "pipelines/self/new-schedule", **NEW | {"cron": "61 3 * * *"})
    assert (status, errors_of(page, "cron")) == (422, "must be valid: cannot read the minute")
    assert 'value="Europe/Berlin"' in page
    # All mistakes are shown at once, whether the form finds them or the service.
    for parameters in ("x", "unknown=1"):
        wrong = NEW | {"cron": "61 3 * * *", "zone": "Mars", "parameters": parameters}
        status, page = send(operator, "pipelines/self/new-schedule", **wrong)
        assert [status, *(bool(errors_of(page, name)) for name in ("cron", "zone", "parameters"))] == [422, 1, 1, 1]
    scheduled()
    status, page = send(operator, "pipelines/self/new-schedule", **NEW)
    assert (status, "already has a schedule nightly" in errors_of(page, "name")) == (422, True)
    status, page = send(operator, f"schedules/{ID}", **NEW | {"zone": "Mars"}, revision="1")
    assert (status, "must be a time zone" in errors_of(page, "zone")) == (422, True)


def test_a_change_by_another_user_is_not_overwritten_unseen(operator: Client) -> None:
    members: Any = {"repository": "https://git.example.com/a.git", "default_ref": "main"}
    pipeline_save(actor=ADMIN, name="self", definition=None, **members)
    scheduled(parameters={"deep": True})
    schedule_change(actor=ADMIN, schedule_id=ID, git_ref="release")
    status, page = send(operator, f"schedules/{ID}", **NEW | {"parameters": "deep=true"}, revision="1")
    assert (status, "Another user changed this schedule" in page) == (422, True)
    assert 'name="revision" value="2"' in page
    assert send(operator, f"schedules/{ID}", **NEW | {"parameters": "deep=true"}, revision="2")[0] == 302
    # What the user has not touched stays as the API has made it.
    assert schedule_get(ID).parameters == {"deep": True}
    assert schedule_get(ID).git_ref is None


def test_the_page_says_what_the_schedule_did_last_and_why_it_did_nothing(operator: Client) -> None:
    scheduled(cron="*/5 * * * *")
    with clock.shifted(timedelta(minutes=6)):
        assert schedules_start(seconds=9) == 1
        run_id = schedule_get(ID).last_run_id
        assert f"/dashboard/runs/{run_id}" in operator.get(LIST).text
        assert "at its time" in operator.get(f"/dashboard/runs/{run_id}").text
    pipeline_pause(actor=ADMIN, name="self")
    with clock.shifted(timedelta(minutes=12)):
        assert schedules_start(seconds=9) == 0
        page = words(operator.get(LIST).text)
        assert "The pipeline was paused." in page
        assert "Its schedules start no runs until it is resumed." in page
        assert f"/dashboard/runs/{run_id}" in operator.get(LIST).text


def test_a_viewer_sees_schedules_and_changes_none(viewer: Client) -> None:
    scheduled()
    page = viewer.get(LIST).text
    assert "nightly" in page
    assert "Add a schedule" not in page
    assert "/pause" not in page
    assert viewer.get(f"/dashboard/schedules/{ID}").status_code == 403
