"""`manage.py local`: the whole product on one machine, for development and trials. Nothing of it is shipped."""
