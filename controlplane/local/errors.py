"""The error of `manage.py local`."""


class LocalError(Exception):
    """One or two sentences for the person at the terminal: what happened and what to do."""
