"""The Django admin over records. Nothing here imports ``django.contrib.admin`` until somebody opens the admin."""
