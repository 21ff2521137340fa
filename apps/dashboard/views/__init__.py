"""The pages' views: read through selectors, act through services, render."""
