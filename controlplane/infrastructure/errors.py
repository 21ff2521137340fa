"""Why `manage.py infrastructure` can't go on."""


class InfrastructureError(Exception):
    """One or two sentences for the person who deploys: what is wrong and what to do."""
