"""The file of a job's outputs, into which its steps may have put anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.job_outputs import OutputsInvalid, outputs_read
from agent.masking import Masks

NAMES = [f"n{number}" for number in range(40)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a=1\n\nnonsense", "line 3 must be NAME=value, not 'nonsense'"),
        (b"a b=c", "line 1 must be NAME=value, not 'a b=c'"),
        (b"\x1b[2J" * 100, "line 1 must be NAME=value, not "),
        (b"a=" + b"x" * 4097, "the value of a must have at most 4,096 bytes"),
        (b"a=\xff", "it must be UTF-8"),
        (b"a=\0", "it must not contain null characters"),
        (b"a=1\n" * 300_000, "it must have at most 1,048,576 bytes"),
        ("".join(f"{name}=1\n" for name in NAMES).encode(), "a job must have at most 32 outputs"),
        (
            "".join(f"{name}={'x' * 4000}\n" for name in NAMES[:5]).encode(),
            "all outputs together must have at most 16,384 bytes",
        ),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(data)
    with pytest.raises(OutputsInvalid) as error:
        outputs_read(tmp_path / "output", ["a", *NAMES], Masks())
    assert message in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        os.mkfifo,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path),
    ],
)
def test_what_is_no_file_is_not_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "output")
    with pytest.raises(OutputsInvalid):
        outputs_read(tmp_path / "output", ["a"], Masks())


def test_the_last_value_counts_and_other_names_are_named(tmp_path: Path) -> None:
    assert outputs_read(tmp_path / "missing", ["a"], Masks()) == ({}, [])
    (tmp_path / "output").write_text("a=1\r\nb=2\na= 3 = 4 \nempty=\n")
    assert outputs_read(tmp_path / "output", ["a", "empty", "never"], Masks()) == ({"a": " 3 = 4 ", "empty": ""}, ["b"])
