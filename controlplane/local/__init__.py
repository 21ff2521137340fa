"""`manage.py local`: the whole product on one machine, for development and trials. It is not shipped to Lambda."""
