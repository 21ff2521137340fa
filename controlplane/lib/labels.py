"""Labels: a job requires them and an agent offers them. Pipelines, agents and jobs share these rules."""

import re

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,62}")
# Continues "must be" in a message.
LABEL_FORM = "1 to 63 letters, digits and . _ : / = -, beginning with a letter or digit"
MAX_LABELS = 20
