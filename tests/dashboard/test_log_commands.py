"""Lines that are meant for the page."""

import pytest

from apps.dashboard.log_commands import log_command


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("make: done", "", "make: done"),
        ("── step 1/2: lint", "step", "── step 1/2: lint"),
        ("── step 1/2: lint · exit code 0 after 1.5 s", "agent", "── step 1/2: lint · exit code 0 after 1.5 s"),
        ("── commit 1234 · branch fetched in 0.1 s", "agent", "── commit 1234 · branch fetched in 0.1 s"),
        ("── $ make lint", "command", "$ make lint"),
        ("── > --all", "command", "> --all"),
        ("── > ", "command", "> "),
        ("── $make", "agent", "── $make"),
        ("::group::Install", "group", "Install"),
        ("##[group]Install", "group", "Install"),
        ("::endgroup::", "endgroup", ""),
        ("::error::no", "error", "Error: no"),
        ("::error file=a.py,line=3,col=1::50%25 of it%0Amore", "error", "Error: 50% of it more (a.py:3)"),
        ("::warning file=a.py::old", "warning", "Warning: old (a.py)"),
        ("::notice::x", "notice", "Notice: x"),
        ("::debug::x", "debug", "Debug: x"),
        ("::set-output name=x::y", "", "::set-output name=x::y"),
        (" ::error::not at the beginning", "", " ::error::not at the beginning"),
        ("::error", "", "::error"),
    ],
)
def test_a_line_that_is_meant_for_the_page_is_shown_as_what_it_means(text: str, kind: str, shown: str) -> None:
    assert log_command(text.encode()) == (kind, shown.encode())
