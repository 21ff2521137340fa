"""Each command, against the real server."""
