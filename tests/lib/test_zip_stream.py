"""A zip is as large as is said before it is made."""

import io
import zipfile

import pytest

from controlplane.lib import clock
from controlplane.lib.zip_stream import ZipEntry, zip_blocks, zip_size


@pytest.mark.parametrize(
    "files", [{}, {"a.tar": b""}, {"a.tar": b"a" * 70_000, "b-(3.11).tar.gz": b"b"}, {f"{n}": b"x" for n in range(300)}]
)
def test_the_size_of_a_zip_is_known_before_it_is_made(files: dict[str, bytes]) -> None:
    entries = [ZipEntry(name, clock.now(), [data[:9], data[9:]]) for name, data in files.items()]
    made = b"".join(zip_blocks(entries))
    assert len(made) == zip_size({name: len(data) for name, data in files.items()})
    with zipfile.ZipFile(io.BytesIO(made)) as found:
        assert {name: found.read(name) for name in found.namelist()} == files
