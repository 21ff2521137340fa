"""What the product's own metrics are called: the function emits them, and alarms and the dashboard look at them."""

NAMESPACE = "HybridCICD"
# The one dimension of those below; its value is the stage.
STAGE = "Stage"

# How many agents are dead; each minute.
AGENTS_DEAD = "AgentsDead"
# Seconds for which the job that waits longest has waited, 0 when none waits; each minute.
OLDEST_WAIT = "OldestWaitSeconds"
# How many jobs wait; each minute.
QUEUE_DEPTH = "QueueDepth"
