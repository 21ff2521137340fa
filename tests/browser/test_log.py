"""The log of a job as a person with a browser meets it: folds, attempts, keys, and what hostile jobs print."""

import json
from collections.abc import Callable
from typing import Any

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from apps.jobs.services import attempt_expire, job_cancel
from controlplane.lib.actor import Actor
from tests.browser.conftest import Reader
from tests.dashboard.scene import Scene

LINT = """\
── step 1/2: lint
── $ make lint
::group::Install
installed
::endgroup::
All checks passed!
── step 1/2: lint · exit code 0 after 12.4 s
""".encode()
TEST = """\
── step 2/2: test
── $ make test
::group::Collecting
""".encode()
COLLECTED = b"collected\n" * 300 + b"::endgroup::\n"
FAILED = "E   assert 3 == 4\n── step 2/2: test · exit code 3 after 4.2 s\n".encode()

# The texts of the lines that are in the page, by their numbers.
LINES = """
return Object.fromEntries([...document.querySelectorAll(".line")].map((line) => [line.id.slice(1),
  line.querySelector(".fold-name")?.textContent ?? line.textContent]));
"""
# The headers of folds: number, name, facts, and whether it is open.
HEADS = """
return [...document.querySelectorAll(".fold")].map((fold) => [Number(fold.parentNode.id.slice(1)),
  fold.querySelector(".fold-name").textContent,
  [...fold.querySelectorAll(".fold-facts > *")].map((fact) => fact.textContent).sort().join(" ")
    .replace(/^\\d+ s Running$/, "0 s Running"),
  fold.ariaExpanded === "true"]);
"""
CHOSEN = "return [...document.querySelectorAll('.line-chosen')].map((line) => Number(line.id.slice(1)))"
# Whether a person sees the line.
SEEN = """
const line = document.getElementById("L" + arguments[0])?.getBoundingClientRect();
const log = document.getElementById("log").getBoundingClientRect();
return Boolean(line && line.height && line.top >= log.top - 1 && line.bottom <= log.bottom + 1);
"""


def lines(reader: Reader) -> dict[int, str]:
    found: Any = reader.script(LINES)
    return {int(number): text for number, text in found.items()}


def press(reader: Reader, *keys: str) -> None:
    ActionChains(reader.driver).send_keys(*keys).perform()


def test_the_log_is_folded_by_step_with_duration_and_state(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, LINT, TEST, COLLECTED, FAILED)
    scene.finish(agent, running_job, chunks=4, exit_code=3)
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.wait(lambda: reader.script(CHOSEN) == [312])
    heads = [[1, "lint", "0.0 s Completed", False], [8, "test", "0.0 s Failed exit 3", True]]
    reader.wait(lambda: reader.script(HEADS) == [*heads, [10, "Collecting", "", False]])
    # The numbers of the lines stay true, and what is folded is not in the page.
    assert sorted(lines(reader)) == [1, 8, 9, 10, 312, 313]
    # A fold is a button, which keeps the focus.
    reader.script("document.querySelector('#L1 .fold').focus()")
    press(reader, Keys.ENTER)
    reader.wait(lambda: lines(reader).get(6) == "All checks passed!")
    assert reader.script("return document.activeElement.closest('.line').id") == "L1"
    assert [head[3] for head in reader.script(HEADS)] == [True, False, True, False]  # type: ignore[attr-defined]
    press(reader, Keys.SPACE)
    reader.wait(lambda: 6 not in lines(reader))
    # The list of steps leads to a step and opens it.
    reader.click("[data-step='1']")
    reader.wait(lambda: reader.script(CHOSEN) == [1] and 6 in lines(reader) and reader.script(SEEN, 1))
    assert 4 not in lines(reader)
    reader.click("#log-fold")
    reader.wait(lambda: sorted(lines(reader)) == [1, 8])
    reader.click("#log-fold")
    reader.wait(lambda: reader.script("return document.querySelectorAll('.fold').length") == 4)
    assert 4 in lines(reader)


def test_a_link_a_hit_or_an_error_in_a_fold_opens_it(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, LINT, TEST, COLLECTED, FAILED)
    scene.finish(agent, running_job, chunks=4, exit_code=3)
    reader.open(f"/dashboard/jobs/{running_job}#L4-L6")
    reader.wait(lambda: reader.script(CHOSEN) == [4, 5, 6] and reader.script(SEEN, 4))
    assert 200 not in lines(reader)
    reader.driver.find_element("id", "log-query").send_keys("collected" + Keys.ENTER)
    reader.wait_for_text("#log-hits", "1 of 300")
    reader.wait(lambda: reader.script(CHOSEN) == [11] and reader.script(SEEN, 11))


def test_a_step_that_has_succeeded_folds_when_one_follows_and_the_next_begins(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, LINT)
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.wait(lambda: reader.script(HEADS) == [[1, "lint", "12 s Completed", True], [3, "Install", "", False]])
    scene.log(agent, running_job, TEST + b"one\n", first=1)
    running = [[1, "lint", "12 s Completed", False], [8, "test", "0 s Running", True], [10, "Collecting", "", True]]
    reader.wait(lambda: reader.script(HEADS) == running)
    assert lines(reader)[11] == "one"
    scene.log(agent, running_job, COLLECTED + b"all passed\n", first=2)
    scene.finish(agent, running_job, chunks=3)
    # What one watches is not folded at the end of the job.
    reader.wait_for_text("#log-edge", "313 lines.")
    reader.wait(lambda: lines(reader).get(313) == "all passed")
    assert lines(reader)[311] == "collected"


def test_folds_leave_a_long_log_short_and_each_line_is_reached(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    step = [b"lint %d\n" % number for number in range(30_000)]
    parts = [b"".join(step[first : first + 6_000]) for first in range(0, 30_000, 6_000)]
    scene.log(agent, running_job, LINT[: LINT.index(b"::")], *parts)
    scene.log(agent, running_job, LINT[LINT.index(b"All") :], TEST, COLLECTED, FAILED, first=6)
    scene.finish(agent, running_job, chunks=10, exit_code=3)
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.wait(lambda: sorted(lines(reader))[:2] == [1, 30005] and reader.script(CHOSEN) == [30309])
    assert reader.script("return document.getElementById('log').scrollHeight") < 1000  # type: ignore[operator]
    reader.click("#L1 .fold")
    reader.wait(lambda: lines(reader).get(3) == "lint 0")
    assert reader.script(SEEN, 1)
    for number in (15_003, 29_003, 3):
        share = "const log = document.getElementById('log'); log.scrollTop = log.scrollHeight * arguments[0]"
        reader.script(share, number / 30_010)
        reader.wait(lambda number=number: any(abs(line - number) < 300 for line in lines(reader)))  # type: ignore[misc]
        assert all(text == f"lint {line - 3}" for line, text in lines(reader).items() if 3 <= line < 30_003)
        assert len(lines(reader)) <= 1200


def test_one_chooses_between_attempts_and_follows_the_job_from_one_to_the_next(
    reader: Reader, scene: Scene, agent: Actor
) -> None:
    scene.pipeline()
    job_id = scene.job()
    reader.open(f"/dashboard/jobs/{job_id}")
    reader.wait_for_text("#log-edge", "The log begins when an agent runs the job.")
    # The page of a queued job shows the log once there is one.
    assert scene.start(agent) == job_id
    scene.log(agent, job_id, b"first attempt\n")
    reader.wait(lambda: lines(reader) == {1: "first attempt"}, 30)
    assert reader.script("return document.getElementById('log-attempts').hidden")
    attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="lost: no heartbeat for 45 s")
    other = scene.agent("build-02")
    assert scene.start(other) == job_id
    scene.log(other, job_id, b"second attempt\n" * 3, attempt=2)
    reader.wait(lambda: len(lines(reader)) == 3, 30)
    assert "Attempt 1 was lost with agent build-01 after" in reader.text("#attempt-1")
    assert "lost: no heartbeat for 45 s" in reader.text("#attempt-1")
    assert "Attempt 2 runs on agent build-02" in reader.text("#attempt-2")
    current = "return [...document.querySelectorAll('#log-attempts [aria-current]')].map((link) => link.id).join()"
    assert reader.script(current) == "attempt-2"
    reader.click("#attempt-1")
    reader.wait(lambda: lines(reader) == {1: "first attempt"})
    assert reader.script(current) == "attempt-1"
    # A link to a line names the attempt, and the page stays there while the job goes on.
    reader.click("#L1 a")
    assert reader.driver.current_url.endswith(f"{job_id}?attempt=1#L1")
    scene.finish(other, job_id, chunks=1, attempt=2)
    reader.wait_for_text("#attempt-2", "completed on agent build-02 after")
    assert reader.script(current) == "attempt-1"
    assert lines(reader) == {1: "first attempt"}


def test_keys_do_what_the_buttons_do_and_choices_are_remembered(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    scene.log(agent, running_job, LINT, TEST, COLLECTED, FAILED)
    scene.finish(agent, running_job, chunks=4, exit_code=3)
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.wait(lambda: reader.script(CHOSEN) == [312])
    press(reader, "?")
    shortcuts_are_open = "return document.getElementById('log-shortcuts').open"
    reader.wait(lambda: reader.script(shortcuts_are_open))
    press(reader, Keys.ESCAPE)
    reader.wait(lambda: not reader.script(shortcuts_are_open))
    press(reader, "/")
    reader.wait(lambda: reader.script("return document.activeElement.id") == "log-query")
    press(reader, "make" + Keys.ENTER)
    reader.wait(lambda: reader.script(CHOSEN) == [2])
    # In a field, keys are text.
    press(reader, "n")
    reader.wait(lambda: reader.script("return document.getElementById('log-query').value") == "maken")
    press(reader, Keys.ESCAPE)
    press(reader, "n")
    reader.wait(lambda: reader.script(CHOSEN) == [9])
    press(reader, "N")
    reader.wait(lambda: reader.script(CHOSEN) == [2])
    press(reader, "e")
    reader.wait(lambda: reader.script(CHOSEN) == [312])
    time = "return document.querySelector('#L312').dataset.time ?? ''"
    assert reader.script(time) == ""
    press(reader, "t")
    reader.wait(lambda: str(reader.script(time)).startswith("+"))
    press(reader, "t", "w")
    reader.open(f"/dashboard/jobs/{running_job}")
    reader.wait(lambda: reader.script(CHOSEN) == [312])
    reader.wait(lambda: ":" in str(reader.script(time)))
    assert not reader.script("return document.getElementById('log').classList.contains('log-wrapped')")
    press(reader, "?")
    reader.click("#log-keys")
    press(reader, Keys.ESCAPE)
    press(reader, "w")
    assert not reader.script("return document.getElementById('log').classList.contains('log-wrapped')")
    reader.script("localStorage.clear()")


# Each would do harm in a page that is not careful: markup, links and titles of terminals, right-to-left text, lines
# without an end, bytes that are no text, characters without a width or on top of others, and colours without end.
HOSTILE = {
    "html": b"<script>window.harmed=1</script><img src=x onerror=window.harmed=1></div></template><!--",
    "osc": b"\x1b]8;;javascript:window.harmed=1\x07click\x1b]8;;\x07 \x1b]0;title\x07\x1b]52;c;aGk=\x07",
    "bidi": "\u202e if admin \u2066 return \u2069 \u200f שלום مرحبا".encode(),
    "link": b"javascript:window.harmed=1 data:text/html,x http://a.test/'\"><b onclick=window.harmed=1>",
    "bytes": b"\xff\xfe\x00\xc3\x28\xf0\x9f",
    "nul": b"\x00" * 20_000,
    "returns": b"\r" * 1_000_000 + b"end",
    "long": b"x" * 300_000,
    "combining": b"e" + "\u0301\u0489".encode() * 30_000,
    "zero width": "\u200b\u200d\ufeff".encode() * 30_000,
    "colours": b"\x1b[31mx\x1b[32my" * 50_000,
    "links": b"http://a.test/x " * 50_000,
    "groups": b"\n".join([b"::group::x"] * 5_000),
    "steps": "\n".join(f"── step {number}/9999: x" for number in range(1, 5_000)).encode(),
}


def test_what_a_hostile_job_prints_is_text_and_bounded(
    reader: Reader, scene: Scene, agent: Actor, running_job: str
) -> None:
    sequence = 0
    numbers = {}
    total = 0
    for name, data in HOSTILE.items():
        numbers[name] = total + 1
        total += data.count(b"\n") + 1
        whole = data + b"\n"
        for first in range(0, len(whole), 100_000):
            scene.log(agent, running_job, whole[first : first + 100_000], first=sequence)
            sequence += 1
    colourful = b"".join(b"\x1b[%d;%dmx" % (30 + n % 8, n % 2) for n in range(500)) + b"\n"
    for _ in range(10):
        scene.log(agent, running_job, colourful * 24, first=sequence)
        sequence += 1
    scene.finish(agent, running_job, chunks=sequence)
    reader.open(f"/dashboard/jobs/{running_job}#L1")
    reader.script(
        "window.tasks = []; new PerformanceObserver((list) => list.getEntries().forEach((entry) => "
        "window.tasks.push(entry.duration))).observe({type: 'longtask'})"
    )
    nodes = "return document.querySelectorAll('#log *').length * 2"
    title = reader.driver.title
    for number in (*numbers.values(), total + 150):
        reader.script("location.hash = `#L${arguments[0]}`", number)
        reader.wait(lambda number=number: reader.script(CHOSEN) == [number])  # type: ignore[misc]
        reader.wait(lambda number=number: reader.script(SEEN + "", number) or number in lines(reader))  # type: ignore[misc]
        assert int(str(reader.script(nodes))) <= 6000, number
        # Nothing is painted outside the log, and no line over another.
        assert reader.script("return document.documentElement.scrollWidth <= innerWidth")
    assert reader.script("return window.harmed") is None
    assert reader.driver.title == title
    assert reader.script("return document.querySelectorAll('#log :is(script, img, b, iframe, style)').length") == 0
    longest = int(float(str(reader.script("return Math.max(0, ...window.tasks)"))))
    assert longest < 2000, f"the main thread was blocked for {longest} ms"
    reader.script("location.hash = '#L1'")
    reader.wait(lambda: 1 in lines(reader))
    shown = lines(reader)
    assert shown[numbers["html"]] == HOSTILE["html"].decode()
    assert shown[numbers["osc"]] == "click "
    assert shown[numbers["bidi"]] == "\ufffd if admin \ufffd return \ufffd \ufffd שלום مرحبا"
    assert shown[numbers["bytes"]] == "\ufffd\ufffd\ufffd(\ufffd"
    assert len(shown[numbers["long"]]) < 17_000
    links = "return [...document.querySelectorAll('#log .line a:not([data-n])')].map((link) => link.href)"
    assert {str(link)[:14] for link in reader.script(links)} <= {"http://a.test/"}  # type: ignore[attr-defined]


def test_axe_finds_nothing_on_the_page_in_any_state(reader: Reader, scene: Scene, agent: Actor) -> None:
    def check(state: str, job_id: str, ready: Callable[[], object], query: str = "") -> None:
        reader.open(f"/dashboard/jobs/{job_id}{query}")
        reader.wait(ready)
        for dark in (False, True):
            reader.look(dark=dark)
            # What depends on colours is what the dark page can do worse than the light one.
            problems = reader.violations(rule="color-contrast" if dark else None)
            assert problems == [], f"{state}, dark: {dark}: {json.dumps(problems, indent=1)}"

    def heads(count: int) -> Callable[[], bool]:
        return lambda: len(reader.script(HEADS)) == count  # type: ignore[arg-type]

    def edge(text: str) -> Callable[[], bool]:
        return lambda: text in reader.text("#log-edge")

    scene.pipeline()
    job_id = scene.job()
    check("queued", job_id, edge("The log begins"))
    assert scene.start(agent) == job_id
    colours = b"".join(b"\x1b[%dmcolour\x1b[0m \x1b[1;%dmbold\x1b[0m " % (code, code) for code in range(30, 38))
    scene.log(agent, job_id, LINT, TEST + b"::warning::w\n::error::e\n::notice::n\n::debug::d\n" + colours + b"\n")
    check("running", job_id, heads(3))
    attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="the agent was lost")
    check("lost and queued again", job_id, heads(3))
    assert scene.start(agent) == job_id
    scene.log(agent, job_id, LINT, TEST, COLLECTED, FAILED, attempt=2)
    scene.finish(agent, job_id, chunks=4, attempt=2, exit_code=3)
    check("failed", job_id, heads(3))
    check("another attempt", job_id, heads(3), "?attempt=1")
    reader.click("#log-help")
    assert reader.violations() == []
    succeeded = scene.job()
    scene.start(agent)
    scene.log(agent, succeeded, LINT, TEST, COLLECTED)
    scene.finish(agent, succeeded, chunks=3)
    check("succeeded", succeeded, heads(2))
    long = scene.job()
    scene.start(agent)
    scene.log(agent, long, *(b"a line\n" * 10_000 for _ in range(5)))
    scene.finish(agent, long, chunks=5)
    check("long", long, edge("50000 lines."))
    cancelled = scene.job()
    job_cancel(actor=scene.admin, job_id=cancelled)
    check("cancelled, no log", cancelled, edge("has no log"))
    silent = scene.job()
    scene.start(agent)
    scene.finish(agent, silent)
    check("no output", silent, edge("The job printed nothing."))
