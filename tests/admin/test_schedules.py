"""Schedules in the admin."""

import re

from apps.pipelines.selectors import schedule_find, schedule_get
from tests.admin.conftest import Browser, errors, rows
from tests.dashboard.scene import Scene
from tests.pipelines.schedules import ID

SCHEDULES = "/admin/pipelines/schedule/"
FIELDS = {"pipeline": "self", "name": "nightly", "cron": "30 3 * * *", "zone": "Europe/Berlin", "git_ref": ""}


def test_a_schedule_is_added_changed_and_deleted(operator: Browser, scene: Scene) -> None:
    scene.pipeline()
    operator.send(f"{SCHEDULES}add/", **FIELDS)
    assert schedule_get(ID).zone == "Europe/Berlin"
    assert "30 3 * * *" in rows(operator.page(SCHEDULES))[0]
    page = operator.page(f"{SCHEDULES}{ID}/change/")
    assert len(re.findall(r"\d{4}-\d\d-\d\d 0[12]:30", page)) == 3
    operator.send(f"{SCHEDULES}{ID}/change/", git_ref="release")
    assert schedule_get(ID).git_ref == "release"
    assert "schedule changed" in operator.page(f"{SCHEDULES}{ID}/history/")
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', operator.page(f"{SCHEDULES}{ID}/delete/"))
    operator.post(f"{SCHEDULES}{ID}/delete/", data={"csrfmiddlewaretoken": found[1], "post": "yes"})
    assert schedule_find(ID) is None


def test_schedules_are_paused_and_resumed_from_their_list(operator: Browser, scene: Scene) -> None:
    scene.pipeline()
    operator.send(f"{SCHEDULES}add/", **FIELDS)
    operator.act(SCHEDULES, "pause", ID)
    assert schedule_get(ID).paused_at
    operator.act(SCHEDULES, "resume", ID)
    assert not schedule_get(ID).paused_at


def test_a_mistake_is_shown_at_its_field(operator: Browser, scene: Scene) -> None:
    scene.pipeline()
    answer = operator.send(f"{SCHEDULES}add/", **FIELDS | {"cron": "x"})
    assert "must have five fields" in errors(answer.text)
    answer = operator.send(f"{SCHEDULES}add/", **FIELDS | {"pipeline": "nothing"})
    assert "There is no pipeline of the name" in errors(answer.text)
