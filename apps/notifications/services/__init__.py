"""The outbox and notifications: the only writers of the app's records."""

from typing import TYPE_CHECKING

from controlplane.lib.lazy_names import lazy_names

if TYPE_CHECKING:
    from apps.notifications.senders.messages import Message
    from apps.notifications.services.announcing import announce
    from apps.notifications.services.deliveries import delivery_redeliver, delivery_send, target_test
    from apps.notifications.services.outbox import RetryLater, outbox_add, outbox_retry
    from apps.notifications.services.outbox_work import outbox_run
    from apps.notifications.services.rules import rule_change, rule_create, rule_delete
    from apps.notifications.services.targets import target_change, target_create, target_delete, target_secret_rotate

__all__ = [
    "Message",
    "RetryLater",
    "announce",
    "delivery_redeliver",
    "delivery_send",
    "outbox_add",
    "outbox_retry",
    "outbox_run",
    "rule_change",
    "rule_create",
    "rule_delete",
    "target_change",
    "target_create",
    "target_delete",
    "target_secret_rotate",
    "target_test",
]

# A module is imported with the first use of one of its names: most requests need none.
__getattr__ = lazy_names(
    __name__,
    {
        "announcing": ["Message", "announce"],
        "deliveries": ["delivery_redeliver", "delivery_send", "target_test"],
        "outbox": ["RetryLater", "outbox_add", "outbox_retry"],
        "outbox_work": ["outbox_run"],
        "rules": ["rule_change", "rule_create", "rule_delete"],
        "targets": ["target_change", "target_create", "target_delete", "target_secret_rotate"],
    },
)
