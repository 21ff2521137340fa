"""Requests of agents and about agents, and agents as JSON."""

from apps.agents.serializers.heartbeats import heartbeat_report

__all__ = ["heartbeat_report"]
