"""The entry point connects to the database when it is imported, so the emulator has to run before."""

import pytest


@pytest.fixture(autouse=True)
def _database(emulator: str) -> None:
    """Start the emulator first."""
