"""Addresses as clients and proxies write them, and what one client can have."""

import pytest

from controlplane.lib.addresses import address_parse, client_networks, forwarded_address, networks_parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
    ],
)
def test_an_address_is_read_with_and_without_a_port(text: str, address: str) -> None:
    assert str(address_parse(text)) == address


@pytest.mark.parametrize(
    "text", ["", " ", "unknown", "_hidden", "192.0.2", "192.0.2.256", "192.0.2.1/24", "[", "[]", ":", "::1::", "1", "é"]
)
def test_other_texts_are_no_address(text: str) -> None:
    assert address_parse(text) is None
    assert client_networks(text) == ["unknown"]


def test_a_client_is_one_ipv4_address_or_two_networks_of_ipv6() -> None:
    assert client_networks("192.0.2.1") == ["192.0.2.1"]
    assert client_networks("::ffff:192.0.2.1") == ["192.0.2.1"]
    assert client_networks("2001:db8:1:2:3::4") == ["2001:db8:1::/48", "2001:db8:1:2::/64"]


@pytest.mark.parametrize(
    "name", ["", "proxy", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.0/8 10.1.0.0/16"]
)
def test_a_malformed_or_boundless_network_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        networks_parse(("10.0.0.0/8", name))


def test_without_trusted_networks_the_peer_is_the_client() -> None:
    assert forwarded_address("10.0.0.1", "192.0.2.1", ()) == "10.0.0.1"


def test_of_a_chain_of_trusted_proxies_the_first_is_the_client() -> None:
    networks = networks_parse(("10.0.0.0/8",))
    assert forwarded_address("10.0.0.1", "10.0.0.4, 10.0.0.3,10.0.0.2", networks) == "10.0.0.4"


def test_a_long_header_of_a_stranger_is_read_no_further_than_its_end() -> None:
    networks = networks_parse(("10.0.0.0/8",))
    assert forwarded_address("10.0.0.1", "1.2.3.4," * 10_000 + "192.0.2.1", networks) == "192.0.2.1"
