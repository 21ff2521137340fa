"""The Django admin over records. No page of it is imported until somebody opens one."""
