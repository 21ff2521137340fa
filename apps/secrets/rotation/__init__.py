"""Rotators and targets, and when rotations are due. They know no records."""
