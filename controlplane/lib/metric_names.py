"""What the product's own metrics are called: the function emits them, and alarms and the dashboard look at them.

Each name, with each value of its second dimension if it has one, costs $0.30 in a month in which it is in use.
"""

NAMESPACE = "HybridCICD"
# The dimension that all have; its value is the stage.
STAGE = "Stage"

# How many requests were answered; by the class of their status, as ``2xx``.
REQUESTS = "Requests"
STATUS_CLASS = "StatusClass"
# Milliseconds until a request was answered; by the pattern of its address, as ``/jobs/{job_id}``.
LATENCY = "Latency"
ROUTE = "Route"

# What a request asked of DynamoDB: the calls, and the units that these used.
DYNAMODB_CALLS = "DynamoDBCalls"
READ_UNITS = "DynamoDBReadUnits"
WRITE_UNITS = "DynamoDBWriteUnits"

# How many jobs have ended, by how they did.
JOBS_ENDED = {
    "completed": "JobsCompleted",
    "failed": "JobsFailed",
    "cancelled": "JobsCancelled",
    "timed_out": "JobsTimedOut",
}
# Seconds for which a job waited until an agent took it, each time that it waited.
JOB_WAIT = "JobWaitSeconds"
# Seconds from the begin of a job's first step to the end of its last one, by the clock of its agent.
JOB_RUN = "JobRunSeconds"

# How many agents are of a status; each minute.
AGENTS = {
    "healthy": "AgentsHealthy",
    "unhealthy": "AgentsUnhealthy",
    "dead": "AgentsDead",
    "draining": "AgentsDraining",
}
AGENTS_DEAD = AGENTS["dead"]
# Seconds for which the job that waits longest has waited, 0 when none waits; each minute.
OLDEST_WAIT = "OldestWaitSeconds"
# How many jobs wait; each minute.
QUEUE_DEPTH = "QueueDepth"
