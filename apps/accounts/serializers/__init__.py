"""The accounts as JSON."""
