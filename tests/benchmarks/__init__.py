"""Figures that the documentation tells."""
