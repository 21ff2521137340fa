"""The paths of notifications and of the outbox."""

from django.urls import path

from apps.notifications import api

_TARGET, _DELIVERY = "notification-targets/<str:target_id>", "notification-deliveries/<str:delivery_id>"

urlpatterns = [
    path("notification-targets", api.TargetsView.as_view(), name="notification_targets"),
    path(_TARGET, api.TargetView.as_view(), name="notification_target"),
    path(f"{_TARGET}/rotate-secret", api.TargetSecretView.as_view(), name="notification_target_secret"),
    path(f"{_TARGET}/test", api.TargetTestView.as_view(), name="notification_target_test"),
    path("notification-rules", api.RulesView.as_view(), name="notification_rules"),
    path("notification-rules/<str:rule_id>", api.RuleView.as_view(), name="notification_rule"),
    path("notification-deliveries", api.DeliveriesView.as_view(), name="notification_deliveries"),
    path(_DELIVERY, api.DeliveryView.as_view(), name="notification_delivery"),
    path(f"{_DELIVERY}/redeliver", api.RedeliverView.as_view(), name="notification_redeliver"),
    path("outbox/failed", api.FailedItemsView.as_view(), name="outbox_failed"),
    path("outbox/failed/<str:item_id>/retry", api.FailedItemRetryView.as_view(), name="outbox_retry"),
]
