"""Sessions in the admin."""

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest
from django.urls import URLPattern, path

from apps.accounts.admin.owners import OwnerFilter, owner_asked, owner_id
from apps.accounts.models import Session, session_signs_in
from apps.accounts.policies import Permission
from apps.accounts.selectors import user_get
from apps.accounts.services import session_revoke
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing, ListingPage


class _SignedIn(Listing[Session]):
    """One user's sessions without those that have ended: their rows stay until they expire."""

    def page(  # type: ignore[override]
        self, partitions: Iterable[str], *, keep: Callable[[Session], bool], **options: Any
    ) -> ListingPage[Session]:
        (user_id,) = partitions
        user, now = user_get(user_id), clock.now()
        return super().page(
            [user_id],
            keep=lambda session: user is not None and session_signs_in(session, user, now=now) and keep(session),
            **options,
        )


class SessionFacade(Facade, record=Session, hidden=("data", "revision", "subject", "user_info")):
    """A session as the admin sees it. Its key is the hash of its token, which opens nothing."""

    listings = (_SignedIn(Session, Session.by_user, owner_asked, descending=True),)

    class Meta(Facade.Meta):
        verbose_name = "session"

    def __str__(self) -> str:
        return f"{self.record.device or 'unknown device'}, {self.record.address or 'unknown address'}"


class SessionAdmin(NosqlModelAdmin):
    """One user's sessions: the reader's own unless the page asks for another user. They can only be revoked."""

    permissions = {"view": Permission.ACCOUNTS_MANAGE}  # noqa: RUF012
    list_display = (
        "device",
        "address",
        "region",
        "provider",
        moment("created_at"),
        moment("last_seen_at"),
        moment("expires_at"),
    )
    list_display_links = None
    list_filter = (OwnerFilter,)
    search_fields = ("user_id",)
    search_help_text = "The whole e-mail address of the user."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(user_id=owner_id(term))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="accounts_session_changelist")]

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if not search_term.strip():
            # The filter is not applied for a user who does not exist.
            user_id = request.GET.get("user_id", self.admin_site.actor_of(request).id)
            return queryset.filter(user_id=user_id), False
        return super().get_search_results(request, queryset, search_term)

    def list_note(self, request: HttpRequest) -> str:
        own = not request.GET.get("q", "").strip() and "user_id" not in request.GET
        return "These are your own sessions. Search for an e-mail address to see another user's." if own else ""

    @act("Revoke", permission=Permission.ACCOUNTS_MANAGE, done="Revoked")
    def revoke(self, actor: Actor, obj: Any) -> None:
        session_revoke(actor=actor, token_hash=obj.pk)


site.register(SessionFacade, SessionAdmin)
