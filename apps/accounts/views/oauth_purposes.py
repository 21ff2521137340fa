"""Why a browser goes to a provider: to sign in, to accept an invitation, or to connect another account.

The session keeps the purpose for each provider, as it keeps the state. So what a browser begins with one provider ends
as it began, even if it begins something else with another one meanwhile.
"""

from typing import Any

from django.http import HttpRequest

from apps.accounts.authentication import request_actor
from apps.accounts.identities import ProviderIdentity
from apps.accounts.services import identity_sign_in, invitation_accept
from apps.accounts.views.invitations import invitation_of_session

SIGN_IN, INVITATION, LINK = "sign_in", "invitation", "link"


def purpose_keep(request: HttpRequest, provider: str) -> None:
    """Keep what the form that leads to the provider is for.

    Raises NotFound or Conflict if the browser has shown no open invitation, NotAuthenticated without a user.
    """
    purpose = request.POST.get("purpose")
    if purpose == INVITATION:
        invitation_of_session(request)
    elif purpose == LINK:
        request_actor(request)
    else:
        purpose = SIGN_IN
    request.session[_key(provider)] = purpose


def purpose_of(request: HttpRequest, provider: str) -> str:
    """What the browser went to the provider for."""
    return str(request.session.get(_key(provider), SIGN_IN))


def purpose_user(request: HttpRequest, purpose: str, identity: ProviderIdentity) -> Any:
    """The user to sign in: the invited one, or the one whom the identity signs in. Raises what the services raise."""
    if purpose == INVITATION:
        return invitation_accept(invitation=invitation_of_session(request), identity=identity)
    return identity_sign_in(identity)


def _key(provider: str) -> str:
    return f"_purpose_{provider}"
