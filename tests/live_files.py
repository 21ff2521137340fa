"""Files of processes that run meanwhile, which write, rename and remove them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def files_below(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Each regular file below the folders with what it contains, except those that are gone before they are read."""
    for folder in folders:
        # os.walk passes over a folder that is gone, for which pathlib raises FileNotFoundError.
        for place, _, names in os.walk(folder):
            for path in (Path(place, name) for name in names):
                with suppress(FileNotFoundError):
                    if path.is_file() and not path.is_symlink():
                        yield path, path.read_bytes()


def any_file_has(folder: Path, text: bytes) -> bool:
    """Whether some file below the folder contains the text."""
    return any(text in contents for _, contents in files_below(folder))
