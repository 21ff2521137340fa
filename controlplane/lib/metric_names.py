"""The names of the product's metrics. The Lambda function emits them; alarms and the CloudWatch dashboard use them.

Each name, with each value of its second dimension if it has one, costs $0.30 in each month in which it is used.
"""

NAMESPACE = "HybridCICD"
# The dimension that all metrics have. Its value is the stage.
STAGE = "Stage"

# The number of answered requests, by the class of their status, such as ``2xx``.
REQUESTS = "Requests"
STATUS_CLASS = "StatusClass"
# The milliseconds until a request was answered, by the pattern of its address, such as ``/jobs/{job_id}``.
LATENCY = "Latency"
ROUTE = "Route"

# The calls of a request to DynamoDB, and the capacity units that they consumed.
DYNAMODB_CALLS = "DynamoDBCalls"
READ_UNITS = "DynamoDBReadUnits"
WRITE_UNITS = "DynamoDBWriteUnits"

# The number of jobs that have ended, by status.
JOBS_ENDED = {
    "completed": "JobsCompleted",
    "failed": "JobsFailed",
    "cancelled": "JobsCancelled",
    "timed_out": "JobsTimedOut",
}
# The seconds for which a job waited until an agent claimed it, each time that it waited.
JOB_WAIT = "JobWaitSeconds"
# The seconds from the start of a job's first step to the end of its last step, by its agent's clock.
JOB_RUN = "JobRunSeconds"

# The number of logs of ended jobs that a sweep could not archive.
LOG_ARCHIVE_FAILURES = "LogArchiveFailures"

# The number of agents of each status, measured each minute.
AGENTS = {
    "healthy": "AgentsHealthy",
    "unhealthy": "AgentsUnhealthy",
    "dead": "AgentsDead",
    "draining": "AgentsDraining",
}
AGENTS_DEAD = AGENTS["dead"]
# The seconds for which the oldest queued job has waited, 0 when no job waits, measured each minute.
OLDEST_WAIT = "OldestWaitSeconds"
# The number of queued jobs, measured each minute.
QUEUE_DEPTH = "QueueDepth"
