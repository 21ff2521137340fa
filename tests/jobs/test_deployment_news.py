"""What the outbox gets of a deployment fits into it, whatever names people have chosen."""

from apps.jobs.models import Deployment
from apps.jobs.services.deployment_news import News, deployment_announce
from apps.jobs.states import DeploymentStatus
from controlplane.nosql.transaction import Transaction


def test_the_longest_names_fit(tables: None) -> None:
    deployment = Deployment(
        "0" * 26,
        environment="e" * 55,
        pipeline="p" * 63,
        run_id="0" * 26,
        node="n" * 200,
        git_ref="\N{PILE OF POO}" * 255,
        commit="c" * 64,
        event="api",
        requested_by="\N{PILE OF POO}" * 255,
        status=DeploymentStatus.WAITING,
        created_at="",
        created_month="",
    )
    transaction = Transaction()
    deployment_announce(transaction, deployment, News.APPROVED, by="\N{PILE OF POO}" * 100)
    transaction.commit()
