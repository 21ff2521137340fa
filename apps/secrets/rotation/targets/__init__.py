"""The systems that can hold copies of secrets."""
