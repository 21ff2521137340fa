"""The page that says how the control plane is."""

from apps.jobs.services.sweeps import sweep_note
from tests.clients import Client
from tests.dashboard.test_overview import words


def test_it_names_what_needs_a_look_and_follows_it(viewer: Client) -> None:
    page = viewer.get("/dashboard/status").text
    assert "Something does not work." in page
    assert "Tasks of each minute They have not run yet. Check the schedule" in words(page)
    sweep_note(failed=[])
    part = viewer.get("/dashboard/status", headers={"HX-Request": "true"}).text
    assert "All works." in part
    assert "<html" not in part
