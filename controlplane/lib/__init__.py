"""Shared code that depends on no app and no view."""
