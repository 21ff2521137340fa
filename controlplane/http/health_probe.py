"""Requests /health from the web server of this machine. A container runs this every few seconds, so without Django.

Slim images have no curl, and a plain request to 127.0.0.1 is refused, because it is not an allowed host.
"""

import os
import sys
from http.client import HTTPConnection


def main() -> int:
    """Return 0 for a correct response and 1 for any other. Without a response, the raised error says why."""
    # The server accepts only the hosts of this setting. A host that begins with a dot allows all its subdomains.
    host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip().removeprefix(".")
    connection = HTTPConnection("127.0.0.1", int(os.environ["PORT"]), timeout=4)
    connection.request("GET", "/health", headers={"Host": host})
    return 0 if connection.getresponse().status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
