"""What is announced of deployments: that one waits for people, was approved or rejected, and has ended."""

from enum import StrEnum

from apps.jobs.models import Deployment
from apps.notifications.services import outbox_add
from apps.notifications.states import Topic
from controlplane.lib import clock
from controlplane.nosql.transaction import Transaction

# An item of the outbox is small, and a ref may have a thousand bytes.
_NAME = 50


class News(StrEnum):
    """What has happened to a deployment."""

    WAITS = "waits"
    APPROVED = "approved"
    REJECTED = "rejected"
    ENDED = "ended"


def deployment_announce(
    transaction: Transaction, deployment: Deployment, news: News, *, status: str | None = None, by: str | None = None
) -> None:
    """Add to the transaction of an act that it is announced. `status` is that of the deployment after it."""
    fact = {
        "deployment_id": str(deployment.deployment_id),
        "news": news.value,
        "status": status or str(deployment.status),
        "environment": str(deployment.environment),
        "pipeline": str(deployment.pipeline),
        "run_id": str(deployment.run_id),
        "git_ref": str(deployment.git_ref),
        "commit": deployment.commit,
        "requested_by": str(deployment.requested_by)[:_NAME],
        "by": by[:_NAME] if by else None,
        "at": clock.timestamp(clock.now()),
    }
    outbox_add(transaction, topic=Topic.DEPLOYMENT, key=f"deployment:{deployment.deployment_id}", fact=fact)
