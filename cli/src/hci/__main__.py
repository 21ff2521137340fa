"""``python -m hci``."""

from hci.main import main

main()
