"""Where Django's admin touches the ORM, and the way round: the table of the design's second section, line by line.

The pages themselves are tried over HTTP in tests/admin.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin import ShowFacets
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import models
from django.urls import NoReverseMatch, get_resolver, reverse

from apps.accounts.models import User, UserFacade
from controlplane.nosql.admin.options import NosqlModelAdmin, act
from controlplane.nosql.admin.site import RecordSite, site
from controlplane.nosql.facade import Facade, RecordQuerySet


@pytest.fixture(scope="module", autouse=True)
def _pages() -> None:
    get_resolver().resolve("/admin/")


def pages() -> Iterator[NosqlModelAdmin]:
    return (page for page in site._registry.values() if isinstance(page, NosqlModelAdmin))


def findings(**options: Any) -> set[str]:
    """The ids of what the system checks have against a page of people with these options."""
    page = type("Page", (NosqlModelAdmin,), options)
    return {message.id for message in page(UserFacade, RecordSite("trial")).check()}


def test_every_page_passes_the_system_checks() -> None:
    assert site.check(None) == []
    call_command("check", fail_level="WARNING")


def test_a_page_without_options_passes() -> None:
    assert findings() == set()


@pytest.mark.parametrize(
    "options",
    [
        {"inlines": [object]},
        {"raw_id_fields": ["email"]},
        {"autocomplete_fields": ["email"]},
        {"radio_fields": {"role": 1}},
        {"filter_horizontal": ["role"]},
        {"filter_vertical": ["role"]},
        {"list_display": ["email", "name"], "list_editable": ["name"]},
        {"list_select_related": True},
        {"date_hierarchy": "created_at"},
        {"ordering": ["email"]},
        {"sortable_by": ["email"]},
        {"prepopulated_fields": {"name": ["email"]}},
        {"save_as": True},
        {"view_on_site": True},
        {"actions": ["delete_selected"]},
    ],
    ids=lambda options: next(reversed(options)),
)
def test_an_option_that_needs_sql_is_refused(options: dict[str, Any]) -> None:
    assert "nosql.E001" in findings(**options)


@pytest.mark.parametrize("options", [{"show_facets": ShowFacets.ALLOW}, {"show_full_result_count": True}])
def test_counting_is_refused(options: dict[str, Any]) -> None:
    assert findings(**options) == {"nosql.E002"}


def test_a_filter_over_the_model_is_refused() -> None:
    assert findings(list_filter=["role"]) == {"nosql.E003"}


def test_a_model_that_cannot_be_listed_is_refused() -> None:
    class Unlisted(Facade):
        class Meta:
            app_label = "trial"
            managed = False

    class Related(Facade):
        listings = UserFacade.listings
        user = models.ForeignKey(UserFacade, on_delete=models.CASCADE)

        class Meta:
            app_label = "trial"
            managed = False

    def found(model: type[Facade]) -> set[str]:
        return {message.id for message in NosqlModelAdmin(model, RecordSite("trial")).check()}

    try:
        assert found(Unlisted) == {"nosql.E004"}
        assert found(Related) == {"nosql.E005"}
    finally:
        from django.apps import apps

        del apps.all_models["trial"]
        apps.clear_cache()


def test_managers_and_pages_ask_the_queryset_without_sql() -> None:
    assert isinstance(UserFacade._default_manager.get_queryset(), RecordQuerySet)
    for page in pages():
        if issubclass(page.model, Facade):
            assert isinstance(page.get_queryset(None), RecordQuerySet)


def test_lists_neither_count_nor_sort_nor_show_facets() -> None:
    for page in pages():
        assert page.sortable_by == ()
        assert page.show_facets is ShowFacets.NEVER
        assert not page.show_full_result_count


def test_content_types_are_known_from_the_start_and_each_has_its_own_number() -> None:
    kinds = [page.model for page in pages() if issubclass(page.model, Facade)]
    found = [ContentType.objects.get_for_model(kind, for_concrete_model=False) for kind in kinds]
    assert [(kind.app_label, kind.model) for kind in found] == [
        (kind._meta.app_label, kind._meta.model_name) for kind in kinds
    ]
    assert len({kind.pk for kind in found}) == len(kinds)
    assert ContentType.objects.get_for_id(found[0].pk) == found[0]


@pytest.mark.parametrize("name", ["view_on_site", "autocomplete", "password_change", "password_change_done"])
def test_pages_that_need_tables_are_dropped(name: str) -> None:
    arguments = [1, 1] if name == "view_on_site" else []
    with pytest.raises(NoReverseMatch):
        reverse(f"admin:{name}", args=arguments)


def test_nothing_hangs_on_a_record_that_is_deleted() -> None:
    page = NosqlModelAdmin(UserFacade, RecordSite("trial"))
    facade = UserFacade(user_id="ada", email="ada@example.com")
    assert page.get_deleted_objects([facade], None) == (["ada@example.com"], {"user": 1}, set(), [])


def test_lists_are_narrowed_by_declared_filters_only() -> None:
    page = site._registry[get_user_model()]
    assert page.lookup_allowed("role", "admin", None)
    for lookup in ("password", "password__startswith", "email", "session_epoch__gt", "pk"):
        assert not page.lookup_allowed(lookup, "x", None)


def test_django_writes_no_log_of_its_own() -> None:
    page = NosqlModelAdmin(UserFacade, RecordSite("trial"))
    assert page.log_addition(None, None, None) is page.log_change(None, None, None) is None
    assert page.log_deletions(None, None) is None
    assert site.get_log_entries(None) == ()


def test_permissions_are_strings_of_roles_and_not_rows(tables: None) -> None:
    user = UserFacade(user_id="ada", email="ada@example.com", role="viewer", is_active=True)
    from apps.accounts.authentication import PasswordBackend

    assert PasswordBackend().has_perm(user, "jobs.read")
    assert not PasswordBackend().has_perm(user, "accounts.manage")


def test_a_user_without_the_right_is_not_offered_the_action() -> None:
    class Page(NosqlModelAdmin):
        @act("Mend", permission="mend", done="Mended")
        def mend(self, actor: Any, obj: Any) -> None:
            """Nothing."""

    trial: Any = RecordSite("trial")
    trial.allows = lambda _request, permission: permission == "mend"
    assert list(Page(UserFacade, trial).get_actions(None)) == ["mend"]
    trial.allows = lambda _request, _permission: False
    assert list(Page(UserFacade, trial).get_actions(None)) == []


def test_what_a_facade_hides_is_no_field_of_it() -> None:
    for model in (page.model for page in pages()):
        names = {field.name for field in model._meta.get_fields()}
        assert not names & {"data", "keys", "encrypted", "env"}, model
    assert "password" in User.get_attributes()
