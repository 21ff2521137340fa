"""Deployments for tests: an environment, people who may approve, and a run whose job deploys."""

from typing import Any

from apps.accounts.models import User
from apps.accounts.policies import ROLES
from apps.accounts.services import user_create
from apps.agents.models import Heartbeat
from apps.jobs.models import Deployment, Environment
from apps.jobs.selectors.deployments import deployment_get
from apps.jobs.selectors.runs import run_view
from apps.jobs.services.environments import environment_create
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.ids import new_id
from tests.conftest import ADMIN
from tests.jobs.runs import Worker, graph_pipeline

STEPS = "steps: [{run: make}]"
DEPLOYS = f"jobs: {{ship: {{environment: production, {STEPS}}}}}"
TWO_STAGES = f"""
jobs:
  build: {{{STEPS}}}
  stage: {{needs: build, environment: staging, {STEPS}}}
  ship: {{needs: stage, environment: production, {STEPS}}}
"""


def environment(name: str = "production", **members: Any) -> Environment:
    """An environment that an admin has made."""
    return environment_create(actor=ADMIN, name=name, **members)


def user(name: str, role: str = "operator") -> User:
    """An account; the hash of its password takes no time."""
    return user_create(
        email=f"{name}@example.com", password="a long enough password", name=name.title(), role=role, actor=SYSTEM
    )


def acting(user: User) -> Actor:
    """The user as the actor of a request."""
    return Actor("user", str(user.user_id), str(user.name), frozenset(ROLES[str(user.role)]))


def deployment_of(run_id: str, node: str = "ship") -> Deployment:
    """The deployment of this job of the run."""
    return deployment_get(str(run_view(run_id).nodes[node].job_id))


def deployer() -> Worker:
    """An agent, and the pipeline ``graph``."""
    graph_pipeline()
    agent = Heartbeat(new_id(), at=clock.timestamp(clock.now()), status="healthy")
    agent.save()
    return Worker(Actor("agent", str(agent.agent_id), "build"))
