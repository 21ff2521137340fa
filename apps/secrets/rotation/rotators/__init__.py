"""What makes new values of secrets."""
