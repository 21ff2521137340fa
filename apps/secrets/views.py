"""``/.well-known/…``: what others need to verify the identity tokens of jobs (OpenID Connect Discovery 1.0).

Both documents are public and read no record. Those who trust the tokens fetch them, not the jobs.
"""

import hashlib
import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from apps.secrets.services.identity_tokens import CLAIMS, published_keys
from controlplane.http.documented import documented
from controlplane.http.public_url import public_url

# How many seconds a copy may be used. A new key is published for a day before it signs.
_KEPT_SECONDS = 3600


@documented("get", "apps.secrets.documentation.DISCOVERY")
@csrf_exempt
@require_safe
def discovery(request: HttpRequest) -> HttpResponse:
    """Who issues the identity tokens of jobs, and where the keys are that verify them."""
    issuer = public_url(request)
    return _published(
        request,
        {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/.well-known/jwks.json",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid"],
            "claims_supported": list(CLAIMS),
        },
    )


@documented("get", "apps.secrets.documentation.KEYS")
@csrf_exempt
@require_safe
def keys(request: HttpRequest) -> HttpResponse:
    """The public keys that verify the identity tokens of jobs (JSON Web Key Set, RFC 7517)."""
    return _published(request, {"keys": published_keys()})


def _published(request: HttpRequest, document: dict[str, Any]) -> HttpResponse:
    """The document, or 304 for a client that has it."""
    content = json.dumps(document).encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": f"public, max-age={_KEPT_SECONDS}",
        "ETag": etag,
        "Access-Control-Allow-Origin": "*",
    }
    response = HttpResponse(content, content_type="application/json", headers=headers)
    answer: HttpResponse = get_conditional_response(request, etag=etag, response=response) or response
    return answer
