"""What a browser does with long logs. `make benchmark-log` prints it.

It starts `manage.py local`, lets an agent run jobs that print so many megabytes in so many seconds, and follows each in
headless Chromium from its start: the longest task of the page's main thread, the nodes of the page, and when the page
shows the log's end after the job has ended. Then it opens the page anew, and searches for a line in the midst.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from benchmarks.product import Product, repository_make, running_product, wait_until

# Megabytes, and the seconds in which a job prints them.
CASES = ((4, 43), (20, 4), (50, 10))
# The goals: milliseconds of a task, nodes, and seconds to the end and to open.
LONGEST_TASK, NODES, TO_THE_END, TO_OPEN = 100, 6_000, 2.0, 1.0

_LINE_BYTES = 70
_LIMIT_SECONDS = 300
_PRINTS = """\
import sys, time
began, printed, number = time.time(), 0, 0
while printed < {bytes}:
    part = b"".join(b"%09d " % (number + n) + b"x" * 59 + b"\\n" for n in range(1000))
    number, printed = number + 1000, printed + len(part)
    sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
    time.sleep(max(0, began + {seconds} * printed / {bytes} - time.time()))
"""
_OBSERVE = """
window.tasks = [0];
new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.tasks.push(entry.duration)))
  .observe({type: "longtask", buffered: true});
"""
_NODES = """
let nodes = 0;
const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
while (walker.nextNode()) nodes++;
return nodes;
"""


def main() -> None:
    """Measure and print."""
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    print("log             longest task   nodes   at the end after   opened in   found in")
    checkout = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder, running_product(checkout, Path(folder) / "state", 1) as product:
        repository = repository_make(Path(folder) / "repository")
        browser = _browser(product)
        try:
            for megabytes, seconds in CASES:
                _measure(product, browser, repository, megabytes, seconds)
        finally:
            browser.quit()
    print(f"goals           ≤ {LONGEST_TASK} ms       ≤ {NODES}  ≤ {TO_THE_END} s              ≤ {TO_OPEN} s")


def _measure(product: Product, browser: Any, repository: Path, megabytes: int, seconds: int) -> None:
    name = f"prints-{megabytes}"
    script = _PRINTS.format(bytes=megabytes * 1_000_000, seconds=seconds)
    indented = "".join(f"      {line}\n" for line in ["python3 - <<'END'", *script.splitlines(), "END"])
    product.pipeline_save(name, repository, f"steps:\n  - name: print\n    run: |\n{indented}")
    job_id = product.request("POST", f"/jobs?pipeline={name}")["job_id"]

    def status() -> str:
        return str(product.request("GET", f"/jobs/{job_id}")["status"])

    wait_until(lambda: status() == "running", _LIMIT_SECONDS)
    browser.get(f"{product.url}/dashboard/jobs/{job_id}")
    browser.execute_script(_OBSERVE)
    nodes, ended = 0, 0.0
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not (ended and _edge(browser).endswith("lines.")):
        if time.monotonic() > deadline:
            raise SystemExit("the page did not come to the end of the log")
        nodes = max(nodes, browser.execute_script(_NODES))
        if not ended and status() in ("completed", "failed"):
            ended = time.monotonic()
        time.sleep(0.2)
    lag = time.monotonic() - ended
    # The browser lists tasks from 50 ms on.
    longest = max(50, browser.execute_script("return Math.max(...window.tasks)"))
    began = time.monotonic()
    browser.get(f"{product.url}/dashboard/jobs/{job_id}")
    opened = time.monotonic() - began
    found = _search(browser, f"{megabytes * 1_000_000 // _LINE_BYTES // 2:09}")
    print(
        f"{megabytes:3} MB in {seconds:3} s   ≤ {longest:7.0f} ms   {nodes:5}   {lag:14.1f} s   {opened:7.1f} s"
        f"   {found:6.1f} s",
        flush=True,
    )


def _search(browser: Any, text: str) -> float:
    """The seconds until the page shows the line with the text."""
    began = time.monotonic()
    browser.find_element(By.ID, "log-query").send_keys(text)
    browser.find_element(By.CSS_SELECTOR, "#log-find button").click()
    shown = "return document.querySelector('.line-chosen')?.textContent ?? ''"
    wait_until(lambda: text in browser.execute_script(shown), 60)
    return time.monotonic() - began


def _edge(browser: Any) -> str:
    return str(browser.execute_script("return document.getElementById('log-edge').textContent"))


def _browser(product: Product) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    browser.get(f"{product.url}/signin")
    for name in ("email", "password"):
        browser.find_element(By.NAME, name).send_keys(product.credentials[name])
    browser.find_element(By.CSS_SELECTOR, "form button.button-primary").click()
    wait_until(lambda: "/signin" not in browser.current_url, 20)
    return browser


if __name__ == "__main__":
    main()
