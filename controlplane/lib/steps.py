"""How many steps a job may have, and how long their names may be. Pipelines and agents agree about that here."""

MAX_STEPS = 100
MAX_STEP_NAME = 100
