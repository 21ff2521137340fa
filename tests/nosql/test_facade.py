"""A record as Django sees it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models

from apps.accounts.models import User, UserFacade
from apps.accounts.services import user_create
from apps.jobs.models import Environment
from apps.secrets.models import SecretVersion
from controlplane.lib.actor import SYSTEM
from controlplane.nosql.backend.base import SqlRefused
from controlplane.nosql.facade import Facade
from controlplane.nosql.query import Unserved
from tests.conftest import PASSWORD, ada_create
from tests.metering import dynamodb_calls

# Their fields are made from the record's attributes, so no type knows them.
FACADES: Any = UserFacade.objects


@pytest.fixture
def ada(tables: None) -> User:
    return ada_create("viewer")


@pytest.fixture
def trials(tables: None) -> Iterator[Any]:
    """The environments a, b and c of the partition “trial”. There is another c, and a d, in another partition."""
    for space, place in (("trial", "c"), ("trial", "a"), ("other", "d"), ("trial", "b"), ("other", "c")):
        Environment(space, place, url=f"https://{space}").save()

    class Trial(Facade, record=Environment, only_partition="trial"):
        class Meta(Facade.Meta):
            app_label = "trial"

    yield Trial.objects
    del apps.all_models["trial"]
    apps.clear_cache()


@pytest.fixture
def versions(tables: None) -> Iterator[Any]:
    """The first and the second version of the secret A, and the first one of B, with a key made of both parts."""
    for secret_id, number in (("A", 1), ("A", 2), ("B", 1)):
        SecretVersion(
            secret_id, number, state="current", fingerprint=f"{secret_id}{number}", created_at="", created_by=""
        ).save()

    class Trial(Facade, record=SecretVersion, hidden=("number", "rotation_id", "encrypted")):
        fingerprint = models.CharField(primary_key=True, max_length=9)
        unique_lookups = {"fingerprint": lambda key: SecretVersion.find(key[:1], int(key[1:]))}  # noqa: RUF012

        class Meta(Facade.Meta):
            app_label = "trial"

    yield Trial.objects
    del apps.all_models["trial"]
    apps.clear_cache()


def test_in_django_a_facade_has_its_records_name_and_attributes() -> None:
    assert get_user_model() is UserFacade
    assert UserFacade._meta.label == "accounts.User"
    assert {field.name for field in UserFacade._meta.get_fields()} == set(User.get_attributes())
    assert UserFacade._meta.pk.name == "user_id"
    assert not UserFacade._meta.managed


def test_its_fields_follow_the_attributes_unless_it_declares_its_own() -> None:
    field: Any = UserFacade._meta.get_field
    assert isinstance(field("email"), models.EmailField)
    assert isinstance(field("is_active"), models.BooleanField)
    assert isinstance(field("session_epoch"), models.IntegerField)
    assert field("is_active").default is True
    assert field("last_login_at").null
    assert not field("name").null


def test_the_first_is_one_or_none(ada: User) -> None:
    assert FACADES.filter(pk=ada.user_id).first().name == "Ada"
    assert FACADES.filter(pk="-").first() is None
    assert FACADES.filter(pk=ada.user_id).exists()
    assert not FACADES.filter(pk="-").exists()


def test_it_is_got_by_its_key_with_one_read(ada: User) -> None:
    with dynamodb_calls() as counted:
        facade = FACADES.get(pk=ada.user_id)
    assert (facade.email, facade.name, facade.is_active) == ("ada@example.com", "Ada", True)
    assert facade.record.user_id == facade.pk
    assert counted.operations == ["GetItem"]


def test_it_is_got_by_a_unique_value_in_any_spelling(ada: User) -> None:
    assert FACADES.get_by_natural_key("ADA@example.com").pk == ada.user_id
    assert FACADES.get(email="ada@example.com", role="viewer").pk == ada.user_id
    assert not FACADES.filter(email="ada@example.com", role="admin").exists()


def test_one_that_is_not_there_does_not_exist(ada: User) -> None:
    with pytest.raises(UserFacade.DoesNotExist):
        FACADES.get(pk="nobody")
    with pytest.raises(UserFacade.DoesNotExist):
        FACADES.get_by_natural_key("eve@example.com")
    assert FACADES.filter(pk="nobody").first() is None


def test_several_are_got_by_their_keys(ada: User) -> None:
    eve = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=SYSTEM)
    keys = [eve.user_id, ada.user_id]
    assert [facade.name for facade in FACADES.filter(pk__in=keys)] == ["Eve", "Ada"]
    with pytest.raises(UserFacade.MultipleObjectsReturned):
        FACADES.get(pk__in=keys)


def test_all_of_them_are_refused_since_that_is_the_whole_table(ada: User) -> None:
    with pytest.raises(Unserved, match="everything"):
        list(FACADES.all())


def test_a_record_is_not_saved_past_its_service(ada: User) -> None:
    for save in (FACADES.get(pk=ada.user_id).save, UserFacade(user_id="x").save):
        with pytest.raises(TypeError, match="services"):
            save()
        with pytest.raises(TypeError, match="services"):
            save(update_fields=["name"])


def test_a_record_is_not_deleted_past_its_service(ada: User) -> None:
    with pytest.raises((SqlRefused, TypeError)):
        FACADES.get(pk=ada.user_id).delete()
    assert User.find(ada.user_id) is not None


def test_records_of_one_partition_are_found_by_their_range_key_with_one_read(trials: Any) -> None:
    with dynamodb_calls() as counted:
        facade = trials.get(pk="c")
    assert (facade.pk, facade.url) == ("c", "https://trial")
    assert counted.operations == ["GetItem"]
    with dynamodb_calls() as counted:
        several = [facade.pk for facade in trials.filter(pk__in=["b", "d", "a"])]
    assert several == ["b", "a"]
    assert counted.operations == ["BatchGetItem"]
    assert not trials.filter(pk="d").exists()


def test_records_of_one_partition_are_listed_by_their_range_key_with_one_consistent_query(trials: Any) -> None:
    with dynamodb_calls() as counted:
        page = trials.all().page(limit=2)
    assert [facade.pk for facade in page.objects] == ["a", "b"]
    assert (counted.operations, counted.consistent) == (["Query"], 1)
    rest = trials.all().page(limit=2, cursor=page.next_cursor)
    assert [(facade.pk, facade.url, rest.next_cursor) for facade in rest.objects] == [("c", "https://trial", None)]
    assert [facade.pk for facade in trials.filter(place__startswith="b").page(limit=2).objects] == ["b"]


def test_records_whose_key_has_two_parts_are_found_by_a_key_that_the_facade_declares(versions: Any) -> None:
    with dynamodb_calls() as counted:
        facade = versions.get(pk="A2")
    assert (facade.pk, facade.record.number, counted.operations) == ("A2", 2, ["GetItem"])
    assert {field.name for field in facade._meta.get_fields() if getattr(field, "primary_key", False)} == {
        "fingerprint"
    }
    assert not versions.filter(pk="A3").exists()
    assert not versions.filter(pk="A2", state="retired").exists()


def test_a_facade_of_a_record_with_a_range_key_says_what_finds_it() -> None:
    with pytest.raises(TypeError, match="declare a primary key"):

        class Trial(Facade, record=SecretVersion):
            class Meta(Facade.Meta):
                app_label = "trial"
