"""``POST /auth/validate``. A plain Django view, for speed: a frontend may call it for each of its own requests."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apps.accounts.serializers.session_question import session_asked_about
from apps.accounts.services import session_verify
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body, json_type_require
from controlplane.lib.errors import NotAuthenticated


@documented("post", "apps.accounts.api.documentation.VALIDATE")
@body_limit(2048)
@csrf_exempt
@require_POST
def session_validate(request: HttpRequest) -> HttpResponse:
    """Whether a session is valid, and whose it is. This is no use of the session: it does not move its end."""
    json_type_require(request)
    token = session_asked_about(json_body(request))
    try:
        session = session_verify(token, use=False)
    except NotAuthenticated:
        return JsonResponse({"valid": False, "user_id": None, "provider": None, "expires_at": None})
    return JsonResponse(
        {
            "valid": True,
            "user_id": session.subject or session.user.user_id,
            "provider": session.provider,
            "expires_at": session.expires_at,
        }
    )
