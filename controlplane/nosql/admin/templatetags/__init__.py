"""The admin's template tags under their usual names."""
