"""Deploying a stage to AWS: the code of `manage.py deploy` and `manage.py release`. It is not shipped to Lambda."""
