"""What is said of a deployment to the targets whose rules ask for it. It is called by the outbox."""

from typing import Any

from django.conf import settings

from apps.jobs.services.deployment_news import News
from apps.jobs.states import DeploymentStatus
from apps.notifications.selectors.outbox import OutboxItem
from apps.notifications.services import Message
from apps.notifications.services.announcing import announce, branch_name
from apps.notifications.states import Occasion

_WAITS, _APPROVED = "deployment.waiting", "deployment.approved"


def deployment_tell(item: OutboxItem) -> None:
    """Tell those who want to hear of it that a deployment waits, was approved or rejected, or has ended.

    Telling it again changes nothing. Raises Unavailable.
    """
    fact = item.fact
    said = _said(News(fact["news"]), DeploymentStatus(fact["status"]))
    if said is None:
        return
    occasion, kind, headline, is_good = said
    announce(
        happening=f"deployment {fact['deployment_id']} {fact['news']} {fact['at']}",
        occasion=occasion,
        pipeline=fact["pipeline"],
        branch=branch_name(fact["git_ref"]),
        message=lambda: _message(fact, kind=kind, headline=headline, is_good=is_good, occasion=occasion),
    )


def _said(news: News, status: DeploymentStatus) -> tuple[Occasion, str, str, bool | None] | None:
    """The occasion, the type of the message, its headline, and whether it is good; None if nothing is said of it."""
    if news == News.WAITS:
        return Occasion.WAITING_FOR_APPROVAL, _WAITS, "Waiting for approval", None
    if news == News.APPROVED:
        return Occasion.DEPLOYMENT_APPROVED, _APPROVED, "Approved", None
    if status == DeploymentStatus.COMPLETED:
        return Occasion.DEPLOYED, "deployment.completed", "Deployed", True
    if status == DeploymentStatus.REJECTED:
        return Occasion.DEPLOYMENT_FAILED, "deployment.rejected", "Rejected", False
    if status == DeploymentStatus.FAILED:
        return Occasion.DEPLOYMENT_FAILED, "deployment.failed", "Deployment failed", False
    return None


def _message(fact: Any, *, kind: str, headline: str, is_good: bool | None, occasion: Occasion) -> Message:
    deployment_id = fact["deployment_id"]
    facts = [("Environment", fact["environment"])]
    facts += [("Commit", str(fact["commit"])[:12])] if fact["commit"] else []
    facts += [("Asked for by", fact["requested_by"])]
    facts += [("By", fact["by"])] if fact["by"] else []
    # Who follows the link signs in before they can approve anything.
    url = f"{settings.PUBLIC_URL}/dashboard/deployments/{deployment_id}" if settings.PUBLIC_URL else None
    members = (
        "deployment_id",
        "environment",
        "pipeline",
        "run_id",
        "git_ref",
        "commit",
        "requested_by",
        "by",
        "status",
    )
    return Message(
        type=kind,
        headline=headline,
        subject=f"{fact['pipeline']} on {fact['git_ref']} to {fact['environment']}",
        facts=facts,
        url=url,
        link="Open the deployment",
        at=fact["at"],
        data={"occasion": occasion, **{name: fact[name] for name in members}},
        is_good=is_good,
    )
