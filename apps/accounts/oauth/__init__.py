"""Signing in with Google and GitHub, by social-auth. Imported on first use only: it takes 50 ms and more."""
