"""Regular expressions of strangers."""

import pytest

from controlplane.lib.errors import InvalidInput
from controlplane.lib.regex_process import RegexProcess


def test_it_says_which_texts_match() -> None:
    with RegexProcess(r"^a.c$", ignore_case=False, seconds=30) as process:
        assert process.matches(["abc", "ABC", "xabc", "a\u2028c", ""]) == [0, 3]
        assert process.matches([]) == []
    with RegexProcess("ä", ignore_case=True, seconds=30) as process:
        assert process.matches(["Ä", "a"]) == [0]


@pytest.mark.parametrize("pattern", ["[", "(?P<a", "*", "(" * 200, "x{99999999999}"])
def test_what_is_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        RegexProcess(pattern, ignore_case=False, seconds=30)
    assert refused.value.errors[0]["field"] == "q"


def test_an_expression_that_would_take_years_is_stopped() -> None:
    with (
        RegexProcess("(x+x+)+y", ignore_case=False, seconds=0.5) as process,
        pytest.raises(InvalidInput, match="too long"),
    ):
        process.matches(["x" * 100])
