"""Bringing a stage to AWS: what `manage.py deploy` and `manage.py release` do. Nothing of it is shipped to Lambda."""
