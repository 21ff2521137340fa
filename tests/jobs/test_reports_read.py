"""Reading test reports and coverage: the dialects of test runners, and what is hostile or broken."""

import gzip
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.jobs.reports.cobertura import cobertura_read
from apps.jobs.reports.junit import junit_read
from apps.jobs.reports.packing import (
    CASES_BYTES,
    FAILURES_BYTES,
    cases_pack,
    cases_unpack,
    failures_pack,
    failures_unpack,
)
from apps.jobs.reports.results import MAX_FAILURES, MAX_NAME, Case, Coverage, Failure, Outcome, Results, Totals
from controlplane.lib.errors import Unprocessable
from tests.examples import examples

FILES = Path(__file__).with_name("report_files")


def file(name: str) -> bytes:
    """A report as the test runner of that name writes it."""
    return (FILES / f"{name}.xml").read_bytes()


def read(text: str | bytes) -> Results:
    return junit_read(text if isinstance(text, bytes) else text.encode())


def refused(text: str | bytes, reader: Callable[[bytes], object] = junit_read) -> str:
    with pytest.raises(Unprocessable) as caught:
        reader(text if isinstance(text, bytes) else text.encode())
    assert caught.value.code == "report_invalid"
    assert len(caught.value.message) < 400
    return caught.value.message


def by_name(results: Results) -> dict[str, Case]:
    return {case.name: case for case in results.cases}


# --- dialects -------------------------------------------------------------------------------------------------------


def test_a_report_of_pytest_is_read() -> None:
    results = read(file("pytest"))
    assert results.totals == Totals(total=4, failed=2, skipped=1, flaky=0, seconds=0.012)
    assert results.totals.passed == 1
    assert by_name(results)["test_ok[1-é]"] == Case("tests.test_a", "test_ok[1-é]", Outcome.PASSED, 0.012)
    first, second = results.failures
    assert (first.group, first.name, first.message) == ("tests.test_a", "test_bad", "assert 1 == 2 + where 1")
    assert first.details.splitlines() == ["def test_bad():", ">       assert 1 == 2", "E       assert 1 == 2"]
    assert (second.group, second.name, second.message) == ("pytest", "tests.test_b", "collection failure")
    assert "printed" not in first.details


def test_a_report_of_surefire_is_read_with_the_tests_that_it_ran_again() -> None:
    results = read(file("surefire"))
    assert results.totals == Totals(total=3, failed=1, skipped=0, flaky=1, seconds=1235.0)
    assert {name: case.outcome for name, case in by_name(results).items()} == {
        "adds": "passed",
        "often": "flaky",
        "never": "failed",
    }
    (failure,) = results.failures
    assert failure.message == "java.lang.AssertionError"
    assert "AppTest.java:9" in failure.details
    assert "again" not in failure.details


def test_a_report_of_gradle_is_read_without_what_tests_printed() -> None:
    results = read(file("gradle"))
    assert set(by_name(results)) == {"sum()", "[2] b"}
    assert results.totals == Totals(total=2, skipped=1, seconds=0.007)


def test_a_report_of_jest_is_read_and_its_first_line_is_the_message() -> None:
    (failure,) = read(file("jest")).failures
    assert failure.message == "Error: expect(received).toBe(expected)"
    assert "Object.<anonymous> (cart.test.js:9:5)" in failure.details


def test_a_report_of_gotestsum_is_read_and_a_test_that_passed_the_second_time_is_flaky() -> None:
    results = read(file("gotestsum"))
    assert results.totals == Totals(total=2, flaky=1, seconds=0.03)
    assert by_name(results)["TestRace"].outcome == "flaky"
    assert results.failures == []


def test_a_report_of_dotnet_is_read_with_its_byte_order_mark_and_decimal_commas() -> None:
    results = read(file("dotnet"))
    assert [(case.name, case.seconds) for case in results.cases] == [("Adds(a: 1, b: 2)", 0.0012), ("Splits", 0.5)]
    assert results.failures[0].message == "Assert.Equal() Failure"


def test_tests_of_nested_suites_have_the_name_of_the_innermost_one_and_a_suites_own_failure_counts() -> None:
    results = read(file("nested"))
    assert [(case.group, case.name, case.outcome.value) for case in results.cases] == [
        ("inner", "a", "passed"),
        ("inner", "b", "skipped"),
        ("", "outer", "failed"),
        ("outer", "c", "passed"),
        ("", "d", "passed"),
    ]
    assert [failure.message for failure in results.failures] == ["teardown failed"]


def test_a_report_without_tests_is_valid() -> None:
    assert read("<testsuites/>").totals == Totals()


def test_a_test_that_fails_under_a_name_that_another_one_has_stays_failed() -> None:
    results = read('<testsuite><testcase name="a"/><testcase name="a"><failure/></testcase></testsuite>')
    assert results.totals == Totals(total=1, failed=1)
    assert [failure.name for failure in results.failures] == ["a"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0.5", 0.5),
        ("1,234.5", 1234.5),
        ("0,25", 0.25),
        ("1e-3", 0.001),
        ("", None),
        ("soon", None),
        ("NaN", None),
        ("inf", None),
        ("-1", None),
        ("1e300", 604800.0),
        ("9" * 5000, None),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_unknown(text: str, seconds: float | None) -> None:
    assert read(f'<testsuite><testcase name="a" time="{text}"/></testsuite>').cases[0].seconds == seconds


# --- coverage -------------------------------------------------------------------------------------------------------

COBERTURA = (FILES / "cobertura.xml").read_text()
LINES = '<line number="1" hits="0"/><line number="2" hits="3"/><line number="3" hits="1" branch="true"/>'


@pytest.mark.parametrize(
    ("attributes", "lines", "expected"),
    [
        ('lines-valid="200" lines-covered="151" line-rate="0.76"', LINES, Coverage(0.755, 151, 200)),
        ('line-rate="0.8125"', "", Coverage(0.8125)),
        ("", LINES, Coverage(2 / 3, 2, 3)),
        ('line-rate="NaN" lines-valid="0" lines-covered="0"', LINES, Coverage(2 / 3, 2, 3)),
        ('lines-valid="1" lines-covered="9"', LINES, Coverage(2 / 3, 2, 3)),
    ],
)
def test_coverage_is_the_share_of_lines(attributes: str, lines: str, expected: Coverage) -> None:
    assert cobertura_read(COBERTURA.format(attributes=attributes, lines=lines).encode()) == expected


def test_coverage_without_any_line_is_refused() -> None:
    assert "line-rate" in refused(COBERTURA.format(attributes='line-rate="7"', lines=""), cobertura_read)


def test_coverage_of_several_jobs_is_that_of_all_their_lines() -> None:
    assert Coverage.together([Coverage(0.5, 1, 2), Coverage(1.0, 8, 8)]) == Coverage(0.9, 9, 10)
    assert Coverage.together([Coverage(0.5, 1, 2), Coverage(1.0)]) == Coverage(0.75)


# --- what is broken or hostile --------------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid XML"),
        ("<testsuite>", "not valid XML"),
        ("<testsuite></testsuites>", "line 1, column 13"),
        ("hello", "not valid XML"),
        (b"PK\x03\x04" + bytes(range(256)), "not valid XML"),
        ("<html/>", "begins with the element html"),
        ("<testsuite>&nbsp;</testsuite>", "undefined entity"),
        (f'<!DOCTYPE t [<!ENTITY l0 "ha">{LAUGHS}]><testsuite name="&l9;"/>', "defines entities"),
        (
            '<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite name="a">&x;</testsuite>',
            "defines entities",
        ),
        ('<!DOCTYPE t [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x"> %x;]><testsuite/>', "defines entities"),
        ('<?xml version="1.0" encoding="shift_jis"?><testsuite/>', "cannot be decoded"),
        ('<?xml version="1.0" encoding="klingon"?><testsuite/>', "cannot be decoded"),
        ('<?xml version="1.0" encoding="zip"?><testsuite/>', "cannot be decoded"),
        ('<?xml version="1.0" encoding="utf-16"?><testsuite/>', "not valid XML"),
        ('<?xml version="1.0" encoding="utf-8"?><testsuite name="\xe9"/>'.encode("latin-1"), "not valid XML"),
        (f"<testsuite>{'<a>' * 100_000}", "levels deep"),
    ],
)
@pytest.mark.parametrize("reader", [junit_read, cobertura_read])
def test_what_cannot_be_read_is_refused_with_the_reason(
    text: str | bytes, says: str, reader: Callable[[bytes], object]
) -> None:
    message = refused(text, reader)
    # Coverage has another root, which is what is wrong first.
    assert says in message or (reader is cobertura_read and "Cobertura" in message)


def test_an_external_entity_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the reader opened something")

    monkeypatch.setattr("socket.create_connection", forbidden)
    monkeypatch.setattr("urllib.request.urlopen", forbidden)
    document = COBERTURA.format(attributes='line-rate="1"', lines="")
    assert cobertura_read(document.encode()) == Coverage(1.0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1", "windows-1252"])
def test_other_encodings_are_read(encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?><testsuite><testcase name="é"/></testsuite>'
    assert read(text.encode(encoding)).cases[0].name == "é"


def test_characters_that_xml_does_not_allow_are_left_out_since_runners_write_them_all_the_same() -> None:
    results = read(
        b'<testsuite><testcase name="a\x1b[31m&#27;[0m&#x1B;\x00">'
        b'<failure message="&#0;m&#x7;">x\x08y&#x01f;z</failure>'
        b"</testcase></testsuite>"
    )
    assert results.cases[0].name == "a[31m[0m"
    assert (results.failures[0].message, results.failures[0].details) == ("m", "xyz")


def test_names_that_would_command_a_terminal_or_turn_a_line_around_are_made_plain() -> None:
    name = "a\u009b31m\u202eb\u2028c\nd"
    (case,) = read(f'<testsuite><testcase name="{name}"/></testsuite>').cases
    assert case.name == "a�31m�b�c d"


def test_long_names_stay_different_and_messages_are_cut_in_the_middle() -> None:
    long = "x" * 1_000_000
    results = read(
        f'<testsuite><testcase name="{long}a"/><testcase name="{long}b">'
        f'<failure message="{long}">begins{long}ends</failure></testcase></testsuite>'
    )
    first, second = (case.name for case in results.cases)
    assert first != second
    assert len(first) == len(second) <= MAX_NAME
    (failure,) = results.failures
    assert len(failure.message) <= 500
    assert failure.details.startswith("begins")
    assert failure.details.endswith("ends")
    assert "characters" in failure.details
    assert len(failure.details) < 4_100


def test_a_hundred_thousand_tests_are_counted_and_read_in_bounded_time() -> None:
    tests = "".join(
        f'<testcase classname="pkg.Class{n % 700}" name="test_{n}" time="0.{n % 1000:03}">'
        f"<system-out>{'noise ' * 20}</system-out></testcase>"
        for n in range(110_000)
    )
    data = f"<testsuites><testsuite name='all'>{tests}</testsuite></testsuites>".encode()
    began = time.process_time()
    results = read(data)
    packed, is_cut = cases_pack(results.cases)
    took = time.process_time() - began
    assert results.totals.total == 110_000
    assert results.is_cut
    assert len(packed) <= CASES_BYTES
    assert is_cut
    assert took < 20, took
    # The slowest ones are kept.
    assert min(case.seconds for case in cases_unpack(packed)) > 0.7


# --- keeping it small -----------------------------------------------------------------------------------------------


def test_what_is_packed_is_as_it_was() -> None:
    cases = [Case("g", "a", Outcome.PASSED, 0.25), Case("g", "é�", Outcome.FLAKY), Case("", "c", Outcome.FAILED, 0.0)]
    packed, is_cut = cases_pack(cases)
    assert not is_cut
    assert sorted(cases_unpack(packed), key=lambda case: case.name) == sorted(cases, key=lambda case: case.name)
    failures = [Failure("g", "a", None, "m", "d\n"), Failure("g", "b", 1.5, "", "")]
    assert failures_unpack(failures_pack(failures)[0]) == failures


def test_of_too_many_tests_those_that_failed_and_the_slowest_are_kept() -> None:
    draw = random.Random(1)
    cases = [
        Case("g", draw.randbytes(40).hex(), Outcome.FAILED if n % 1000 == 0 else Outcome.PASSED, n / 1000)
        for n in range(15_000)
    ]
    packed, is_cut = cases_pack(cases)
    assert is_cut
    assert len(packed) <= CASES_BYTES
    kept = list(cases_unpack(packed))
    assert sum(case.outcome is Outcome.FAILED for case in kept) == 15
    passed = sorted(case.seconds for case in kept if case.outcome is Outcome.PASSED)
    assert passed[-1] == 14.999
    assert passed[0] > 10


def test_failures_that_do_not_compress_are_bounded_too() -> None:
    draw = random.Random(1)
    failures = [Failure("g", str(n), None, "", draw.randbytes(2000).hex()) for n in range(MAX_FAILURES)]
    packed, is_cut = failures_pack(failures)
    assert is_cut
    assert len(packed) <= FAILURES_BYTES
    assert failures_unpack(packed)[0] == failures[0]
    assert len(gzip.decompress(packed)) < 400_000


# --- anything at all ------------------------------------------------------------------------------------------------

SAMPLES = [path.read_bytes() for path in sorted(FILES.iterdir())]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A report from which something was cut, repeated, or replaced by other bytes."""
    data = draw(st.sampled_from(SAMPLES))
    begin, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    middle = draw(st.one_of(st.binary(max_size=30), st.just(data[begin:end] * 2), st.just(b"")))
    return data[:begin] + middle + data[end:]


@given(damaged())
@hypothesis.settings(max_examples=examples(80), deadline=None)
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for reader in (junit_read, cobertura_read):
        with suppress(Unprocessable):
            found = reader(data)
            assert isinstance(found, Coverage) or found.totals.passed >= 0
