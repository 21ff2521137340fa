"""What an agent asks for an identity token, and the answer."""

from apps.agents.serializers.heartbeats import ATTEMPT
from apps.secrets.services.identity_tokens import AUDIENCE, AUDIENCE_FORM, MAX_AUDIENCE
from controlplane.http.fields import Object, Text

TOKEN = Object(
    "IdentityTokenRequest",
    "For which attempt the token is, and for which system.",
    {
        "attempt": ATTEMPT,
        "audience": Text(MAX_AUDIENCE, pattern=AUDIENCE, form=AUDIENCE_FORM.removeprefix("must be ")),
    },
)

TOKEN_ANSWER = Object("IdentityToken", "A JSON Web Token (RFC 7519).", {"token": Text()})
