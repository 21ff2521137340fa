"""The entry point makes its client of the database when it is imported: the database has to be there before."""

import pytest


@pytest.fixture(autouse=True)
def _database(emulator: str) -> None:
    """As on Lambda, where AWS does not come after the function."""
