"""The pages as a person with a browser meets them."""

import pytest
from selenium.webdriver.common.keys import Keys

from apps.jobs.services.approvals import deployment_approve
from apps.notifications.states import Occasion
from controlplane.lib.actor import Actor
from tests.browser.conftest import Reader
from tests.dashboard.scene import Scene
from tests.jobs.deployments import DEPLOYS, acting, deployer, deployment_of, environment, user
from tests.jobs.test_event_starts import deliver
from tests.notifications.conftest import rule_made, target_made
from tests.pipelines.schedules import scheduled
from tests.sources.hooks import connected, github_push
from tests.webhooks import Receiver

PAGES = [
    *("/dashboard/", "/dashboard/status", "/dashboard/runs", "/dashboard/jobs", "/dashboard/jobs/new"),
    *("/dashboard/agents", "/dashboard/pipelines", "/dashboard/pipelines/self", "/dashboard/new-pipeline"),
    *("/dashboard/pipelines/self/schedules", "/dashboard/notifications"),
    *("/dashboard/webhooks", "/dashboard/webhooks/hub"),
    "/dashboard/environments",
]

OTHERS = ["/signin", "/docs", "/account/tokens", "/account/identities"]


@pytest.fixture
def agent(scene: Scene) -> Actor:
    return scene.agent("a-machine-with-quite-a-long-name-in-the-corner")


@pytest.fixture
def running_job(scene: Scene, agent: Actor) -> str:
    scene.pipeline()
    scheduled(
        zone="America/Argentina/ComodRivadavia", git_ref="feature/a-branch-with-a-very-long-name-that-has-to-wrap"
    )
    scene.job(git_ref="feature/a-branch-with-a-very-long-name-that-has-to-wrap-somewhere")
    connected()
    deliver(github_push(f"refs/heads/{'long-' * 20}", repository="acme/a-repository-with-a-long-name-without-a-break"))
    target = target_made(
        Receiver(url="https://hooks.example.com"), path="/a-target-with-quite-a-long-name-in-its-table"
    )
    rule_made(target, *Occasion, branches=["feature/a-branch-with-a-very-long-name-*", "main"])
    return scene.start(agent)


def deployment_made() -> str:
    """The page of a deployment that waits, with long names where there may be some."""
    # It is frozen at any time.
    windows = [
        {"from": one, "until": other, "zone": "America/Argentina/ComodRivadavia", "reason": "w" * 60}
        for one, other in (("FRI 16:00", "MON 08:00"), ("MON 08:00", "FRI 16:00"))
    ]
    environment(
        allowed_refs=["feature/*", "release/" + "x" * 80],
        approvals=1,
        approver_roles=["operator", "admin"],
        freezes=windows,
    )
    run = deployer().run(DEPLOYS, git_ref="feature/a-branch-with-a-very-long-name-that-has-to-wrap")
    return f"/dashboard/deployments/{deployment_of(run).deployment_id}"


def test_a_comment_stays_while_a_deployment_waits_and_the_buttons_go_when_another_has_decided(
    reader: Reader, scene: Scene
) -> None:
    environment(approvals=1, approver_roles=["operator"], requester_may_not_approve=True)
    worker = deployer()
    run = worker.run(DEPLOYS)
    deployment_id = str(deployment_of(run).deployment_id)
    reader.open(f"/dashboard/deployments/{deployment_id}")
    reader.click("#comment")
    reader.press("Not before")
    # Each answer is noted, so that the test knows when one has come.
    reader.script("document.addEventListener('htmx:afterOnLoad', () => document.body.dataset.answered = true)")
    reader.wait(lambda: reader.script("return document.body.dataset.answered"))
    reader.press(" noon")
    assert reader.script("return document.getElementById('comment').value") == "Not before noon"
    deployment_approve(actor=acting(user("ann")), deployment_id=deployment_id, comment=None)
    worker.finish(worker.take())
    reader.wait_for_text("#deployment-actions", "Deploy again")
    assert reader.text("#deployment-decide").strip() == ""
    assert "Completed" in reader.text("#deployment")


def test_the_overview_shows_the_counts_and_follows_them(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    reader.open("/dashboard/")
    assert "1\nof 1" in reader.text(".tiles").replace(" of", "\nof")
    assert reader.text("#tile-running") == "1"
    assert reader.text("#tile-completed") == "0"
    reader.wait_for_text("#recent", "feature/a-branch")
    reader.wait_for_text("#latest", "no secret has a schedule")
    scene.finish(agent, running_job)
    reader.wait(lambda: reader.text("#tile-completed") == "1")
    assert reader.text("#tile-running") == "0"
    # What loads later stays while the rest is refreshed.
    assert "no secret has a schedule" in reader.text("#latest")
    reader.wait_for_text("#announcer", "0 running, 0 waiting")
    reader.wait_for_text("#recent", "Completed")


def test_a_log_grows_while_its_job_runs_and_stops_at_its_end(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, b"first line\n")
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.wait_for_text("#log-lines", "first line")
    scene.log(agent, running_job, b"\x1b[32msecond\x1b[0m line \xff <b>\n", first=1)
    reader.wait_for_text("#log-lines", "second line \ufffd <b>")
    scene.log(agent, running_job, b"third line\n", first=2)
    reader.wait_for_text("#log-lines", "third line")
    scene.finish(agent, running_job, chunks=3)
    reader.wait_for_text("#log-edge", "3 lines.")
    assert shown_lines(reader) == ["first line", "second line \ufffd <b>", "third line"]
    reader.wait_for_text("#job-head", "Completed")
    assert "Run again" in reader.text("#job-head")
    reader.wait_for_text("#announcer", "Job completed")
    assert reader.script("return document.querySelectorAll('[hx-get]').length") == 0


def shown_lines(reader: Reader) -> list[str]:
    """The texts of the lines that are in the page."""
    texts = reader.script("return [...document.querySelectorAll('.line')].map(line => line.textContent)")
    return [str(text) for text in texts]  # type: ignore[attr-defined]


def test_the_log_follows_its_end_unless_the_reader_has_scrolled_up(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    at_end = (
        "const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    )
    scene.log(agent, running_job, b"line\n" * 300)
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.wait(lambda: reader.script(at_end))
    # Lines that do not fit are wrapped, so they are higher than others.
    scene.log(agent, running_job, b"more\n" * 280 + b"long more " * 40 + b"\n" + b"more\n" * 19, first=1)
    reader.wait_for_text("#log-lines", "more")
    reader.wait(lambda: reader.script(at_end))
    # The page may be on its way to the end just then, so a reader may have to scroll twice.
    scroll = "const log = document.getElementById('log'); const top = log.scrollTop; log.scrollTop = 1000; return top"
    reader.wait(lambda: reader.script(scroll) == 1000)
    scene.log(agent, running_job, b"still more\n" * 300, first=2)
    reader.wait_for_text("#log-new", "300 new lines")
    assert "still more" not in reader.text("#log-lines")
    reader.click("#log-new")
    reader.wait(lambda: shown_lines(reader)[-1] == "still more" and reader.script(at_end))
    assert reader.script("return document.getElementById('log-new').hidden")


def test_a_long_log_has_few_lines_in_the_page_and_all_of_them_are_reached(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(
        agent, running_job, *(b"".join(b"line %d\n" % n for n in range(s, s + 5000)) for s in range(0, 40_000, 5000))
    )
    scene.finish(agent, running_job, chunks=8)
    reader.open(f"/dashboard/jobs/{running_job}#L20000-L20002")
    chosen = "return [...document.querySelectorAll('.line-chosen')].map(line => line.textContent)"
    reader.wait(lambda: reader.script(chosen) == ["line 19999", "line 20000", "line 20001"])
    for share in (0, 0.75, 0.25, 1):
        scroll = "const log = document.getElementById('log'); log.scrollTop = log.scrollHeight * arguments[0]"
        reader.script(scroll, share)
        wait_for_line(reader, round(40_000 * share))
        assert len(shown_lines(reader)) <= 1200


def wait_for_line(reader: Reader, number: int) -> None:
    """Wait until a person sees about this line."""
    first = """
        const top = document.getElementById("log").getBoundingClientRect().top;
        const seen = [...document.querySelectorAll(".line")].find((line) => line.getBoundingClientRect().bottom > top);
        return Number(seen?.id.slice(1) ?? -1e6);
    """
    reader.wait(lambda: abs(int(str(reader.script(first))) - number) < 600)


def test_a_search_goes_from_hit_to_hit_through_the_whole_log(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    lines = [b"needle %d\n" % number if number % 700 == 5 else b"hay\n" for number in range(3000)]
    scene.log(agent, running_job, b"".join(lines))
    scene.finish(agent, running_job, chunks=1)
    reader.open(f"/dashboard/jobs/{running_job}#L1")
    reader.driver.find_element("id", "log-query").send_keys("NEEDLE" + Keys.ENTER)
    chosen = "return [...document.querySelectorAll('.line-chosen')].map(line => line.textContent).join()"
    for number, said in ((5, "1 of 5"), (705, "2 of 5"), (1405, "3 of 5")):
        reader.wait_for_text("#log-hits", said)
        wait_for_line(reader, number)
        assert reader.script(chosen) == f"needle {number}"
        reader.click("#log-next")
    reader.click("#log-previous")
    reader.wait_for_text("#log-hits", "3 of 5")


def test_a_step_and_the_next_error_are_one_click_away(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    titles = ["── step 1/2: lint\n".encode(), "── step 2/2: test\n".encode()]
    scene.log(agent, running_job, titles[0] + b"x\n" * 500, titles[1] + b"y\n" * 500 + b"error: no\n" + b"z\n" * 500)
    scene.finish(agent, running_job, chunks=2, exit_code=3)
    reader.open(f"/dashboard/jobs/{running_job}")
    chosen = "return [...document.querySelectorAll('.line-chosen')].map(line => line.textContent).join()"
    reader.wait(lambda: reader.script(chosen) == "error: no")
    reader.click("[data-step='1']")
    name = "return document.querySelector('.line-chosen .fold-name')?.textContent"
    reader.wait(lambda: reader.script(name) == "lint")
    reader.click("#log-error")
    reader.wait(lambda: reader.script(chosen) == "error: no")
    assert reader.text("#log-error") == "Next error (1 of 1)"


def test_cancel_is_one_click_and_the_page_shows_the_result(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.click("#cancel")
    reader.wait_for_text("#job-head", "cancelling")
    assert "the agent stops the job within seconds" in reader.text("main")
    scene.finish(agent, running_job, exit_code=1)
    reader.wait_for_text("#job-head", "Cancelled")
    reader.click("#retry")
    reader.wait(lambda: running_job not in reader.driver.current_url)
    assert "Queued" in reader.text("#job-head")


def test_a_job_is_queued_by_the_form(reader: Reader, scene: Scene) -> None:
    scene.pipeline()
    reader.open("/dashboard/")
    reader.click(".page-head .button-primary")
    reader.wait_for_text("h1", "Run pipeline")
    reader.script("document.getElementById('id_git_ref').value = 'main; reboot'")
    reader.click("form .button-primary")
    reader.wait_for_text("#id_git_ref_error", "letters, digits")
    # The browser writes the refusal's status to its console.
    assert all("422" in complaint for complaint in reader.complaints())
    assert reader.script("return document.getElementById('id_git_ref').value") == "main; reboot"
    reader.script("document.getElementById('id_git_ref').value = 'v1.0'")
    reader.click("form .button-primary")
    reader.wait_for_text("h1", "v1.0")


def test_a_hidden_tab_sends_no_requests(reader: Reader, running_job: str) -> None:
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.script(
        """
        window.asked = 0;
        document.addEventListener("htmx:beforeSend", () => window.asked++);
        window.away = true;
        Object.defineProperty(document, "hidden", { get: () => window.away });
        """
    )
    reader.driver.implicitly_wait(0)
    reader.script("window.passed = 0; setInterval(() => window.passed++, 100)")
    reader.wait(lambda: int(str(reader.script("return window.passed"))) >= 45)
    assert reader.script("return window.asked") == 0
    reader.script("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    reader.wait(lambda: reader.script("return window.asked"), 1)


def test_a_page_says_when_it_may_be_out_of_date(reader: Reader, running_job: str) -> None:
    reader.open(f"/dashboard/jobs/{running_job}")
    shown = "return document.getElementById('stale').getClientRects().length > 0"
    assert not reader.script(shown)
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    reader.command("Network.enable", {})
    reader.command("Network.emulateNetworkConditions", {"offline": True, **offline})
    reader.wait(lambda: reader.script(shown))
    reader.command("Network.emulateNetworkConditions", {"offline": False, **offline})
    reader.wait(lambda: not reader.script(shown))
    assert all("ERR_INTERNET_DISCONNECTED" in complaint or "htmx" in complaint for complaint in reader.complaints())


def test_the_pages_work_without_scripts(reader: Reader, scene: Scene, agent: Actor, running_job: str) -> None:
    scene.log(agent, running_job, b"a line\n")
    reader.command("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.open("/dashboard/")
        assert "Running" in reader.driver.page_source
        reader.open(f"/dashboard/jobs/{running_job}")
        assert "a line" in reader.driver.page_source
        reader.click("#cancel")
        reader.wait(lambda: "cancelling" in reader.driver.page_source)
    finally:
        reader.command("Emulation.setScriptExecutionDisabled", {"value": False})


def test_nothing_is_wider_than_a_phone(reader: Reader, scene: Scene, agent: Actor, running_job: str) -> None:
    scene.log(agent, running_job, b"x" * 500 + b"\n")
    deployments = [deployment_made(), "/dashboard/environments/production"]
    ones = [f"/dashboard/jobs/{running_job}", f"/dashboard/agents/{agent.id}"]
    for page in [*PAGES, *deployments, *ones, *OTHERS]:
        reader.look(width=320)
        reader.open(page)
        for width in (320, 390):
            reader.look(width=width)
            assert reader.script("return document.documentElement.scrollWidth") == width, (page, width)


TONES = ("good", "bad", "warn", "busy", "idle")
GROUNDS = ("ground", "surface", "surface-sunken")
# Each text colour with the backgrounds it is used on.
PAIRS = [
    *((text, ground) for text in ("text", "text-muted", "accent") for ground in GROUNDS),
    *((tone, f"{tone}-soft") for tone in TONES),
    *((tone, "log-ground") for tone in ("text", "text-muted", "good", "bad", "warn", "busy", "magenta", "cyan")),
    ("on-accent", "accent"),
    ("text", "bad-soft"),
    ("text", "warn-soft"),
    ("bad", "surface"),
]


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours written #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour.strip()[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_enough_contrast_in_both_colour_schemes(reader: Reader, dark: bool) -> None:
    reader.look(dark=dark)
    reader.open("/dashboard/")
    token = "return getComputedStyle(document.documentElement).getPropertyValue('--' + arguments[0])"
    ratios = {pair: contrast(*(str(reader.script(token, name)) for name in pair)) for pair in PAIRS}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


def test_the_shapes_of_the_states_are_drawn(reader: Reader, running_job: str) -> None:
    reader.open(f"/dashboard/jobs/{running_job}")
    drawn = "return [...document.querySelectorAll('.state use')].map(shape => shape.getBBox().width)"
    reader.wait(lambda: all(width > 5 for width in reader.script(drawn)))  # type: ignore[attr-defined]


def test_the_night_has_colours_of_its_own(reader: Reader) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    reader.open("/dashboard/")
    by_day = reader.script(ground)
    reader.look(dark=True)
    assert reader.script(ground) not in (by_day, "rgb(255, 255, 255)")


def test_the_keyboard_reaches_the_skip_link_first_and_then_everything_to_act_with(
    reader: Reader, running_job: str
) -> None:
    reader.open(f"/dashboard/jobs/{running_job}")
    focused = []
    for _ in range(30):
        reader.press(Keys.TAB)
        focused.append(
            str(
                reader.script(
                    "const e = document.activeElement; const box = e.getBoundingClientRect();"
                    "return [e.innerText.trim(), e.id, box.top >= 0, getComputedStyle(e).outlineStyle].join('|')"
                )
            )
        )
    assert focused[0].startswith("Skip to content||true|")
    assert any(entry.startswith("Jobs|") for entry in focused)
    assert any(entry.startswith("Cancel job|cancel|true|solid") for entry in focused)
    assert any("|log|" in entry for entry in focused)


def test_the_skip_link_leads_to_the_content(reader: Reader) -> None:
    reader.open("/dashboard/")
    reader.press(Keys.TAB)
    reader.press(Keys.ENTER)
    assert reader.script("return document.activeElement.id") == "content"


def test_a_focused_link_keeps_the_focus_when_its_part_refreshes(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    reader.open("/dashboard/")
    reader.script("document.getElementById('tile-agents').focus()")
    scene.job()
    reader.wait_for_text("#overview", "1 waiting")
    assert reader.script("return document.activeElement.id") == "tile-agents"


def test_a_token_is_made_shown_once_and_revoked(reader: Reader) -> None:
    reader.open("/account/tokens")
    shown = "return document.getElementById('chosen').getClientRects().length > 0"
    assert reader.script(shown)
    reader.click("input[value=all]")
    assert not reader.script(shown)
    reader.script("document.getElementById('id_name').value = 'ci'")
    reader.click("form .button-primary")
    reader.wait_for_text("#made", "“ci” is ready")
    assert len(reader.text("#token")) == 74
    reader.open("/account/tokens")
    assert reader.text("#token") == ""
    reader.click(".confirm summary")
    reader.click(".confirm .button-danger")
    reader.wait_for_text(".notice", "“ci” is revoked")
    reader.wait_for_text("main", "You have no API tokens.")


def test_the_api_documentation_leads_to_each_operation(reader: Reader) -> None:
    reader.open("/docs")
    reader.click('.docs-nav a[href="#jobs_create"]')
    assert reader.script("return document.querySelector('.operation:target').id") == "jobs_create"
    reader.click("#jobs_create .answer summary")
    assert "job_id" in reader.text("#jobs_create .answer")
