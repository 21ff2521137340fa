"""Asks the web server of this machine for /health: what a container is asked every few seconds, so without Django."""

import os
import sys
from http.client import HTTPConnection


def main() -> int:
    """Exit code 0 when it answers as it should, 1 when it answers otherwise; with no answer an error tells why."""
    # It serves only the hosts of this setting; one that begins with a dot stands for all below it.
    host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip().removeprefix(".")
    connection = HTTPConnection("127.0.0.1", int(os.environ["PORT"]), timeout=4)
    connection.request("GET", "/health", headers={"Host": host})
    return 0 if connection.getresponse().status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
