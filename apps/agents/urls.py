"""The paths of agents that people ask for, and of enrolment."""

from django.urls import path, re_path

from apps.agents import api
from controlplane.lib.ids import ID_PATTERN

_AGENT = rf"^agents/(?P<agent_id>{ID_PATTERN})"

urlpatterns = [
    path("agents", api.AgentsView.as_view(), name="agents"),
    path("agents/enrol", api.EnrolView.as_view(), name="agent-enrol"),
    re_path(rf"{_AGENT}/drain$", api.AgentDrainView.as_view(), name="agent-drain"),
    re_path(rf"{_AGENT}/resume$", api.AgentResumeView.as_view(), name="agent-resume"),
    re_path(rf"{_AGENT}$", api.AgentView.as_view(), name="agent"),
]
