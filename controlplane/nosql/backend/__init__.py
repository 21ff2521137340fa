"""The database backend of a project without SQL (setting DATABASES)."""
