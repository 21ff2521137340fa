"""``/tokens``: the API tokens of users."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission, permission_require, tokens_manage_require
from apps.accounts.selectors import api_token_get, api_token_list, user_get
from apps.accounts.serializers.tokens import (
    TokenCreatedSerializer,
    TokenCreateSerializer,
    TokenListQuerySerializer,
    TokenPageSerializer,
    token_json,
)
from apps.accounts.services import api_token_create, api_token_revoke
from controlplane.http.openapi import problems
from controlplane.http.requests import body_validated, query_validated
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden, InvalidInput


class TokensView(APIView):
    @extend_schema(
        parameters=[TokenListQuerySerializer],
        responses=TokenPageSerializer,
        operation_id="tokens_list",
        tags=["tokens"],
    )
    def get(self, request: Request) -> Response:
        """API tokens, newest first: one's own, or another user's with the permission accounts.manage."""
        actor, own_id = _manager(request)
        owner_id = query_validated(request.query_params, TokenListQuerySerializer).get("user_id", own_id)
        tokens_manage_require(actor, owner_id)
        tokens = [token_json(token) for token in api_token_list(owner_id)]
        return Response({"tokens": tokens, "total": len(tokens), "next_cursor": None})

    @extend_schema(
        request=TokenCreateSerializer,
        responses={201: TokenCreatedSerializer, **problems(409)},
        operation_id="tokens_create",
        tags=["tokens"],
    )
    def post(self, request: Request) -> Response:
        """Create an API token. Only this response contains its text: what is stored is a hash."""
        actor, own_id = _manager(request)
        members = body_validated(request.data, TokenCreateSerializer)
        owner_id = members.pop("user_id", own_id)
        tokens_manage_require(actor, owner_id)
        owner = user_get(owner_id)
        if owner is None:
            raise InvalidInput.field("user_id", "must be the id of a user")
        token, secret = api_token_create(user=owner, actor=actor, **members)
        return Response({**token_json(token), "token": secret}, status=201, headers={"Cache-Control": "no-store"})


class TokenView(APIView):
    @extend_schema(
        parameters=[OpenApiParameter("token_id", str, OpenApiParameter.PATH)],
        responses={204: None},
        operation_id="tokens_revoke",
        tags=["tokens"],
    )
    def delete(self, request: Request, token_id: str) -> Response:
        """Revoke an API token, at once: one's own, or another user's with the permission accounts.manage."""
        actor, _ = _manager(request)
        api_token_revoke(token=api_token_get(token_id), actor=actor)
        return Response(status=204)


def _manager(request: Request) -> tuple[Actor, str]:
    """The actor, and its user's id. Raises Forbidden before the response can show whether something exists."""
    actor = request_actor(request)
    permission_require(actor, Permission.TOKENS_MANAGE)
    if actor.person_id is None:
        raise Forbidden("Only users have API tokens.")
    return actor, actor.person_id
