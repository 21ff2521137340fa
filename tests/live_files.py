"""Files of processes that run meanwhile, which write, rename and remove them."""

import os
from collections.abc import Iterable, Iterator
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


def files_with(texts: Iterable[bytes], *folders: Path) -> list[Path]:
    """The files below the folders that contain one of the texts."""
    return [path for path, contents in files_below(*folders) if any(text in contents for text in texts)]
