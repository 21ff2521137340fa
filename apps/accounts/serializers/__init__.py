"""Sessions and API tokens as JSON."""
