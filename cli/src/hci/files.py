"""Files of the user alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hci.errors import HciError, Refused


def private_write(path: Path, content: str) -> None:
    """Replace a file of mode 0600 at once, so that no reader finds half of it. Makes its folder. Raises HciError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes it with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise HciError(f"{path} cannot be written: {error.strerror}.") from error


def private_read(path: Path, *, secret: bool) -> str | None:
    """The content; None if there is no such file. A `secret` file that others can read or change is refused."""
    try:
        with path.open(encoding="utf-8") as opened:
            state = os.fstat(opened.fileno())
            if secret and os.name == "posix" and (state.st_mode & 0o077 or state.st_uid != os.getuid()):
                raise Refused(
                    f"Others can read {path}, so its tokens are not used.",
                    hints=(f"Make it yours alone: chmod 600 {path}", "If others may have read it, revoke its tokens."),
                )
            return opened.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HciError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from error
