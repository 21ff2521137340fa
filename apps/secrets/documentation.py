"""The description of the documents that verify identity tokens, for the API document."""

from controlplane.http.fields import Choice, ListOf, Object, Text
from controlplane.http.openapi import Json, problems

_DISCOVERY = Object(
    "OpenIdConfiguration",
    "OpenID Connect Discovery 1.0, section 3. There is no sign-in, so there are no endpoints for one.",
    {
        "issuer": Text(about="The `iss` of all tokens."),
        "jwks_uri": Text(),
        "response_types_supported": ListOf(Choice(("id_token",))),
        "subject_types_supported": ListOf(Choice(("public",))),
        "id_token_signing_alg_values_supported": ListOf(Choice(("RS256",))),
        "scopes_supported": ListOf(Choice(("openid",))),
        "claims_supported": ListOf(Text()),
    },
)

_KEY = Object(
    "JsonWebKey",
    "A public RSA key (RFC 7518, section 6.3.1).",
    {
        "kty": Choice(("RSA",)),
        "use": Choice(("sig",)),
        "alg": Choice(("RS256",)),
        "kid": Text(about="The `kid` in the header of the tokens that it verifies."),
        "n": Text(),
        "e": Text(),
    },
)

_KEYS = Object("JsonWebKeySet", "The key that signs, and those that will sign or just did.", {"keys": ListOf(_KEY)})

DISCOVERY: Json = {"operation_id": "openid_configuration", "responses": _DISCOVERY, "tags": ["identity tokens"]}
KEYS: Json = {
    "operation_id": "jwks",
    "responses": {200: _KEYS, **problems(503)},
    "tags": ["identity tokens"],
}
