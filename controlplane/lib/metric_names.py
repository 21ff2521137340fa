"""The names of the product's metrics. The Lambda function emits them; alarms and the CloudWatch dashboard use them.

There are eleven. CloudWatch includes ten each month, and a further one costs $0.30 in each month in which it is used.
The last one has values only while a rotation needs a user. All else that can be counted is in log lines, which Logs
Insights adds up.
"""

NAMESPACE = "HybridCICD"
# The only dimension. Its value is the stage.
STAGE = "Stage"

# The number of jobs that have ended, by status. Cancelled jobs have none: no failure is among them.
JOBS_COMPLETED = "JobsCompleted"
JOBS_FAILED = "JobsFailed"
JOBS_ENDED = {"completed": JOBS_COMPLETED, "failed": JOBS_FAILED, "timed_out": JOBS_FAILED}
# The seconds for which a job waited until an agent claimed it, each time that it waited.
JOB_WAIT = "JobWaitSeconds"
# The seconds from the start of a job's first step to the end of its last step, by its agent's clock.
JOB_RUN = "JobRunSeconds"

# The number of logs of ended jobs that a sweep could not archive.
LOG_ARCHIVE_FAILURES = "LogArchiveFailures"
# The number of reads and writes that DynamoDB throttled, on any table or index, also those that a retry got done.
DYNAMODB_THROTTLES = "DynamoDBThrottles"

# The number of agents of these statuses, measured each minute.
AGENTS_HEALTHY = "AgentsHealthy"
AGENTS_DEAD = "AgentsDead"
AGENTS = {"healthy": AGENTS_HEALTHY, "dead": AGENTS_DEAD}
# The seconds for which the oldest queued job has waited, 0 when no job waits, measured each minute.
OLDEST_WAIT = "OldestWaitSeconds"
# The number of queued jobs, measured each minute. Only the sweep measures it, so its absence means that none runs.
QUEUE_DEPTH = "QueueDepth"
# The number of secrets whose last rotation has failed, is late or does not get on, measured each minute unless it is 0.
ROTATIONS_ALARMING = "RotationsAlarming"
