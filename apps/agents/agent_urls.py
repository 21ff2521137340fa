"""The paths of the agent program and of agents' configuration."""

from django.urls import path, re_path

from apps.agents import agent_api
from controlplane.lib.ids import ID_PATTERN

urlpatterns = [
    path("agent.pyz", agent_api.program, name="agent-program"),
    re_path(rf"^agents/(?P<agent_id>{ID_PATTERN})/config$", agent_api.config, name="agent-config"),
]
