"""What happens without anybody asking: the functions that ``events`` in zappa_settings.json names, and when.

Each runs one ``manage.py`` command, so that by hand and by schedule the same is done.
"""

from typing import Any

from django.core.management import call_command

from controlplane.observability.works import observed


def sweep(_event: dict[str, Any], context: Any) -> None:
    """Each minute: mark silent agents, take the jobs of lost ones back, put logs away, measure queue and fleet."""
    with observed("sweep", request_id=getattr(context, "aws_request_id", None)):
        call_command("sweep")
