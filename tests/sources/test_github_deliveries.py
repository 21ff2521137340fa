"""What GitHub's list of an app's deliveries says of those that did not arrive."""

import json
from datetime import timedelta

from apps.sources.providers.interface import provider_of
from controlplane.lib import clock
from tests.sources.conftest import app_connection, connection_of
from tests.sources.fake_provider import FakeProvider


def test_deliveries_that_never_arrived_are_found_oldest_first_and_can_be_had(provider: FakeProvider) -> None:
    connection = app_connection(provider)
    github = provider_of("github")
    began = clock.now() - timedelta(seconds=1)
    with clock.shifted(timedelta(hours=-2)):
        provider.deliver("push", {"before": "too old"}, guid="old", lost=True)
    provider.deliver("push", {"ref": "refs/heads/main", "after": "é"}, guid="first", lost=True)
    for guid in ("second", "third", "first"):
        provider.deliver("push", {"n": guid}, guid=guid, lost=True)
    # The second one arrived when it was sent again.
    provider.deliveries.append(provider.deliveries[2].arrived(len(provider.deliveries) + 1))
    provider.page_size = 2
    missed = github.missed_deliveries(connection, began)
    assert [(one.delivery_id, one.provider_id) for one in missed] == [("first", "2"), ("third", "4")]
    request = github.delivery_request(connection, missed[0].provider_id)
    assert json.loads(request.body) == {"ref": "refs/heads/main", "after": "é"}
    assert (request.headers["x-github-event"], request.headers["x-github-delivery"]) == ("push", "first")
    assert request.headers["x-github-hook-installation-target-id"] == "4711"


def test_a_connection_without_an_app_has_no_list(provider: FakeProvider) -> None:
    connection = connection_of(provider, token="a-users-token")
    assert provider_of("github").missed_deliveries(connection, clock.now()) == []
    assert provider.asked == []
