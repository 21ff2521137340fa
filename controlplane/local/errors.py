"""Why `manage.py local` can't start or go on."""


class LocalError(Exception):
    """One or two sentences for the person at the terminal: what is wrong and what to do."""
