"""The pages under ``/admin/``. Imported at the first request for one, so that other requests do not load the admin."""

from importlib import import_module

from apps.accounts.authentication import request_actor
from apps.audit.admin import AuditSearch, history_of, recent_events
from apps.dashboard.selectors.actors import actors_meant
from controlplane.nosql.admin.site import site

site.connect(actor_of=request_actor, history_of=history_of, recent=recent_events)
AuditSearch.actors_meant = actors_meant
# Importing these registers their pages, in this order.
for app in ("accounts", "agents", "pipelines", "secrets", "notifications", "sources", "jobs", "audit"):
    import_module(f"apps.{app}.admin")

urlpatterns = site.get_urls()
