"""The pages under ``/admin/``. Imported at the first request for one, so that other requests do not load the admin."""

import re
from importlib import import_module

from apps.accounts.authentication import request_actor
from apps.accounts.selectors import user_by_email
from apps.agents.selectors import agents_named
from apps.audit.admin import AuditSearch, history_of, recent_events
from controlplane.lib.ids import ID_PATTERN
from controlplane.nosql.admin.site import site

# As many agents of a name are offered when a search is for one of them.
_NAMESAKES = 5


def _users_meant(text: str) -> list[str]:
    user = user_by_email(text) if "@" in text else None
    return [f"user:{user.user_id}"] if user else []


def _agents_meant(text: str) -> list[str]:
    """An agent's id is taken without a look, so that the events of deleted agents are found too."""
    if re.fullmatch(ID_PATTERN, text):
        return [f"agent:{text}"]
    return [f"agent:{agent.agent_id}" for agent in agents_named(text, limit=_NAMESAKES)]


site.connect(actor_of=request_actor, history_of=history_of, recent=recent_events)
AuditSearch.actor_finders = (_users_meant, _agents_meant)
# Importing these registers their pages, in this order.
for app in ("accounts", "agents", "pipelines", "secrets", "notifications", "sources", "jobs", "audit"):
    import_module(f"apps.{app}.admin")

urlpatterns = site.get_urls()
