"""The paths of agents. What they say of jobs is in apps.jobs."""

from django.urls import path, re_path

from apps.agents import agent_api, api
from controlplane.lib.ids import ID_PATTERN

_AGENT = rf"^agents/(?P<agent_id>{ID_PATTERN})"

urlpatterns = [
    path("agent.pyz", agent_api.program, name="agent-program"),
    path("agents", api.AgentsView.as_view(), name="agents"),
    path("agents/enrol", api.EnrolView.as_view(), name="agent-enrol"),
    re_path(rf"{_AGENT}$", api.AgentView.as_view(), name="agent"),
    re_path(rf"{_AGENT}/config$", agent_api.config, name="agent-config"),
]
