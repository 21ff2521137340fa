"""The error of `manage.py infrastructure` and `manage.py deploy`."""


class InfrastructureError(Exception):
    """One or two sentences for the person who deploys: what happened and what to do."""
