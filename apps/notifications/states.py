"""What the outbox and notifications know of themselves: topics, kinds of targets, and what is announced."""

from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase


class Topic(StrEnum):
    """What an item of the outbox is about. Each topic has one function that works it off."""

    # A run has ended.
    RUN = "run"
    # A deployment waits, was approved, or has ended.
    DEPLOYMENT = "deployment"
    # The checks of a commit at its provider have changed.
    CHECKS = "checks"
    # A message to one target.
    DELIVERY = "delivery"


class TargetKind(StrEnum):
    """How a target gets its messages."""

    # Signed as Standard Webhooks 1.0 has it.
    WEBHOOK = "webhook"
    # An incoming webhook of Slack, or of what understands its messages: Mattermost, Rocket.Chat.
    SLACK = "slack"
    # A workflow of Microsoft Teams that posts an adaptive card.
    TEAMS = "teams"
    EMAIL = "email"


class Occasion(StrEnum):
    """What a rule may name. One happening may be several: a run that failed may have failed after a success."""

    FAILED = "failed"
    FAILED_AFTER_SUCCESS = "failed_after_success"
    FIXED = "fixed"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    DEPLOYMENT_APPROVED = "deployment_approved"
    DEPLOYED = "deployed"
    DEPLOYMENT_FAILED = "deployment_failed"
    ROTATION_FAILED = "rotation_failed"


class DeliveryState(StrEnum):
    """How far a message to a target is."""

    # It waits for its first attempt, or for those before it.
    PENDING = "pending"
    # It has failed, and is tried again.
    RETRYING = "retrying"
    DELIVERED = "delivered"
    # It is tried no more.
    FAILED = "failed"


DELIVERY_FINAL = frozenset({DeliveryState.DELIVERED, DeliveryState.FAILED})


def any_matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns (``release/*``) matches the name. No pattern at all matches every name."""
    found = list(patterns)
    return not found or any(fnmatchcase(name, pattern) for pattern in found)
