"""The API of notifications: targets, rules and deliveries; and what of the outbox could not be done."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.notifications.policies import notifications_manage_require
from apps.notifications.selectors.deliveries import delivery_get, delivery_list
from apps.notifications.selectors.outbox import failed_items
from apps.notifications.selectors.targets import Target, rule_get, rule_list, target_get, target_list
from apps.notifications.serializers import (
    NotificationDeliveriesQuerySerializer,
    NotificationDeliveryPageSerializer,
    NotificationDeliverySerializer,
    NotificationRuleChangeSerializer,
    NotificationRuleCreateSerializer,
    NotificationRuleSerializer,
    NotificationRulesSerializer,
    NotificationSecretRotateSerializer,
    NotificationTargetChangeSerializer,
    NotificationTargetCreateSerializer,
    NotificationTargetSerializer,
    NotificationTargetsSerializer,
    NotificationTargetWithSecretSerializer,
    OutboxFailedItemsSerializer,
)
from apps.notifications.services import (
    delivery_redeliver,
    outbox_retry,
    rule_change,
    rule_create,
    rule_delete,
    target_change,
    target_create,
    target_delete,
    target_secret_rotate,
    target_test,
)
from apps.notifications.states import TargetKind
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated
from controlplane.lib import clock


def _parameter(name: str, length: int = 26) -> OpenApiParameter:
    return OpenApiParameter(name, {"type": "string", "maxLength": length}, OpenApiParameter.PATH)


_target_parameter, _rule_parameter = _parameter("target_id"), _parameter("rule_id")
_delivery_parameter, _item_parameter = _parameter("delivery_id", 53), _parameter("item_id", 60)


def _with_secret(target: Target, secret: str | None) -> Response:
    data = NotificationTargetWithSecretSerializer(target, context={"secret": secret}).data
    return Response(data, headers={"Cache-Control": "no-store"})


class TargetsView(APIView):
    # JSON may escape each byte of an address.
    body_limit = 64 * 1024

    @extend_schema(responses=NotificationTargetsSerializer, operation_id="notification_targets_list")
    def get(self, request: Request) -> Response:
        """List the targets by name, without their addresses."""
        notifications_manage_require(request_actor(request))
        return Response(NotificationTargetsSerializer({"targets": target_list()}).data)

    @extend_schema(
        request=NotificationTargetCreateSerializer,
        responses={201: NotificationTargetWithSecretSerializer, **problems(409)},
        operation_id="notification_targets_create",
    )
    def post(self, request: Request) -> Response:
        """Make a target. The answer has the secret of a webhook, and no other answer has."""
        notifications_manage_require(request_actor(request))
        members = body_validated(request.data, NotificationTargetCreateSerializer)
        members["kind"] = TargetKind(members["kind"])
        answer = _with_secret(*target_create(actor=request_actor(request), **members))
        answer.status_code = 201
        return answer


class TargetView(APIView):
    body_limit = 64 * 1024

    @extend_schema(
        parameters=[_target_parameter], responses=NotificationTargetSerializer, operation_id="notification_targets_get"
    )
    def get(self, request: Request, target_id: str) -> Response:
        """Get what is known of one target, without its address."""
        notifications_manage_require(request_actor(request))
        return Response(NotificationTargetSerializer(target_get(target_id)).data)

    @extend_schema(
        parameters=[_target_parameter],
        request=NotificationTargetChangeSerializer,
        responses={200: NotificationTargetSerializer, **problems(409)},
        operation_id="notification_targets_change",
    )
    def patch(self, request: Request, target_id: str) -> Response:
        """Change the name or the address of a target. What is left out stays."""
        notifications_manage_require(request_actor(request))
        members = body_validated(request.data, NotificationTargetChangeSerializer)
        target = target_change(actor=request_actor(request), target_id=target_id, **members)
        return Response(NotificationTargetSerializer(target).data)

    @extend_schema(parameters=[_target_parameter], responses={204: None}, operation_id="notification_targets_delete")
    def delete(self, request: Request, target_id: str) -> Response:
        """Delete the target with its rules. Messages that wait for it are not sent."""
        target_delete(actor=request_actor(request), target_id=target_id)
        return Response(status=204)


class TargetTestView(APIView):
    @extend_schema(
        parameters=[_target_parameter],
        request=None,
        responses={200: NotificationDeliverySerializer},
        operation_id="notification_targets_test",
    )
    def post(self, request: Request, target_id: str) -> Response:
        """Send a message to the target at once. The answer says how that went; it takes up to five seconds."""
        return Response(
            NotificationDeliverySerializer(target_test(actor=request_actor(request), target_id=target_id)).data
        )


class TargetSecretView(APIView):
    @extend_schema(
        parameters=[_target_parameter],
        request=NotificationSecretRotateSerializer,
        responses={200: NotificationTargetWithSecretSerializer, **problems(409)},
        operation_id="notification_targets_rotate_secret",
    )
    def post(self, request: Request, target_id: str) -> Response:
        """Give a webhook a new secret. For a time messages have a signature by the old one, too."""
        notifications_manage_require(request_actor(request))
        members = body_validated(request.data, NotificationSecretRotateSerializer)
        return _with_secret(*target_secret_rotate(actor=request_actor(request), target_id=target_id, **members))


class RulesView(APIView):
    # JSON may escape each byte of forty patterns.
    body_limit = 128 * 1024

    @extend_schema(responses=NotificationRulesSerializer, operation_id="notification_rules_list")
    def get(self, request: Request) -> Response:
        """List the rules, the oldest first."""
        notifications_manage_require(request_actor(request))
        return Response(NotificationRulesSerializer({"rules": rule_list()}).data)

    @extend_schema(
        request=NotificationRuleCreateSerializer,
        responses={201: NotificationRuleSerializer, **problems(409)},
        operation_id="notification_rules_create",
    )
    def post(self, request: Request) -> Response:
        """Tell a target of certain occasions, from runs on that start ten seconds later."""
        notifications_manage_require(request_actor(request))
        members = body_validated(request.data, NotificationRuleCreateSerializer)
        return Response(
            NotificationRuleSerializer(rule_create(actor=request_actor(request), **members)).data, status=201
        )


class RuleView(APIView):
    body_limit = 128 * 1024

    @extend_schema(
        parameters=[_rule_parameter], responses=NotificationRuleSerializer, operation_id="notification_rules_get"
    )
    def get(self, request: Request, rule_id: str) -> Response:
        """Get one rule."""
        notifications_manage_require(request_actor(request))
        return Response(NotificationRuleSerializer(rule_get(rule_id)).data)

    @extend_schema(
        parameters=[_rule_parameter],
        request=NotificationRuleChangeSerializer,
        responses={200: NotificationRuleSerializer, **problems(409)},
        operation_id="notification_rules_change",
    )
    def patch(self, request: Request, rule_id: str) -> Response:
        """Change a rule. What is left out stays."""
        notifications_manage_require(request_actor(request))
        members = body_validated(request.data, NotificationRuleChangeSerializer)
        return Response(
            NotificationRuleSerializer(rule_change(actor=request_actor(request), rule_id=rule_id, **members)).data
        )

    @extend_schema(parameters=[_rule_parameter], responses={204: None}, operation_id="notification_rules_delete")
    def delete(self, request: Request, rule_id: str) -> Response:
        """Delete the rule. What was announced by it is still sent."""
        rule_delete(actor=request_actor(request), rule_id=rule_id)
        return Response(status=204)


class DeliveriesView(APIView):
    @extend_schema(
        parameters=[NotificationDeliveriesQuerySerializer],
        responses=NotificationDeliveryPageSerializer,
        operation_id="notification_deliveries_list",
    )
    def get(self, request: Request) -> Response:
        """List the messages of the last 30 days with their attempts, newest first: of all targets, or of one."""
        notifications_manage_require(request_actor(request))
        page = delivery_list(**query_validated(request.query_params, NotificationDeliveriesQuerySerializer))
        return Response(NotificationDeliveryPageSerializer(page).data)


class DeliveryView(APIView):
    @extend_schema(
        parameters=[_delivery_parameter],
        responses=NotificationDeliverySerializer,
        operation_id="notification_deliveries_get",
    )
    def get(self, request: Request, delivery_id: str) -> Response:
        """Get one message with its attempts."""
        notifications_manage_require(request_actor(request))
        return Response(NotificationDeliverySerializer(delivery_get(delivery_id)).data)


class RedeliverView(APIView):
    @extend_schema(
        parameters=[_delivery_parameter],
        request=None,
        responses={202: NotificationDeliverySerializer},
        operation_id="notification_deliveries_redeliver",
    )
    def post(self, request: Request, delivery_id: str) -> Response:
        """Send a message once more, under its id, after those that wait for the target."""
        fresh = delivery_redeliver(actor=request_actor(request), delivery_id=delivery_id)
        return Response(NotificationDeliverySerializer(fresh).data, status=202)


class FailedItemsView(APIView):
    @extend_schema(responses=OutboxFailedItemsSerializer, operation_id="outbox_failed_list")
    def get(self, request: Request) -> Response:
        """List what was to be done after acts and could not be done for 24 hours, newest first."""
        notifications_manage_require(request_actor(request))
        return Response(OutboxFailedItemsSerializer({"items": list(failed_items(clock.now()))}).data)


class FailedItemRetryView(APIView):
    @extend_schema(
        parameters=[_item_parameter], request=None, responses={204: None}, operation_id="outbox_failed_retry"
    )
    def post(self, request: Request, item_id: str) -> Response:
        """Try it again, for 24 hours more."""
        outbox_retry(actor=request_actor(request), item_id=item_id)
        return Response(status=204)
