"""Signing in with Google and GitHub, by social-auth. Imported on first use only: it costs a cold start 100 ms."""
