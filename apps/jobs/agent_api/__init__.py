"""The agents' HTTP API. Agents sign every request. These are plain Django views, since agents call them often."""
