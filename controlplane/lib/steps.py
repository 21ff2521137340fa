"""How many steps a job may have, and how long their names may be. Pipelines and agents share these limits."""

MAX_STEPS = 100
MAX_STEP_NAME = 100
