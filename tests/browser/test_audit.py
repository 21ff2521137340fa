"""The audit trail and the status in a browser."""

from datetime import timedelta

from apps.accounts.models import User
from controlplane.lib import clock
from tests.audit.trail import event, write
from tests.browser.conftest import Reader
from tests.dashboard.scene import Scene
from tests.dashboard.test_reports import some_acts


def test_axe_finds_nothing_and_nothing_is_wider_than_a_phone(reader: Reader, scene: Scene) -> None:
    User.find_by_email("olga@example.com").update(actions=[User.role.set("auditor")])
    scene.pipeline()
    write([event("pipeline:" + "long-name-" * 6, detail={"repository": "https://git.example.com/" + "x" * 120})])
    reader.open("/dashboard/audit")
    reader.click("#events a")
    one = str(reader.script("return location.pathname"))
    assert one.startswith("/dashboard/audit/2")
    for page in ("/dashboard/audit", one, "/dashboard/reports", "/dashboard/status"):
        reader.look(width=320, dark=True)
        reader.open(page)
        assert reader.script("return document.documentElement.scrollWidth") == 320, page
        assert reader.violations() == [], page
        reader.look()
        assert reader.violations() == [], page


def test_the_chart_of_a_report_is_as_high_for_one_day_as_for_a_month(reader: Reader, scene: Scene) -> None:
    User.find_by_email("olga@example.com").update(actions=[User.role.set("auditor")])
    some_acts()
    today = clock.now().date()
    fits = (
        "const { width, height } = document.querySelector('.chart').getBoundingClientRect();"
        "return height === 192 && width > 0 && width < document.querySelector('.chart-scroll').clientWidth"
    )
    with clock.shifted(timedelta(minutes=3)):
        for days in (0, 30):
            reader.open(f"/dashboard/reports/sign-ins?from={today - timedelta(days=days)}&to={today}")
            assert reader.script(fits), days
