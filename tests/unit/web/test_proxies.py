"""Declared proxies, and the visitor whose address they forward."""

from __future__ import annotations

import pytest

from tuner.errors import TunerError
from tuner.web.proxies import client_address, parse_proxies

PROXIES = parse_proxies(["127.0.0.1", "172.16.0.0/12", "2001:db8:1::/48"])


@pytest.mark.parametrize(
    ("remote", "forwarded", "visitor"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),  # not a proxy: anybody may send the header
        ("127.0.0.1", "", "loopback"),
        ("127.8.3.1", "198.51.100.1", "loopback"),  # not declared
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6,198.51.100.1, 172.20.0.3", "198.51.100.1"),  # two proxies in a row
        ("172.20.0.3", "172.20.0.9", "172.20.0.9"),  # a visitor inside
        ("127.0.0.1", "6.6.6.6, unknown", "loopback"),
        ("127.0.0.1", " , ", "loopback"),
        ("127.0.0.1", "198.51.100.1:5678", "198.51.100.1"),
        ("127.0.0.1", "[2001:db8:2:3:4::5]:5678", "2001:db8:2:3::/64"),
        ("2001:db8:1::1", "2001:db8:2:3:ffff::1", "2001:db8:2:3::/64"),
        ("::ffff:127.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "", "fe80::/64"),
        ("::1", "", "loopback"),
        ("", "198.51.100.1", ""),
        ("127.0.0.1", "9" * 5000, "loopback"),
    ],
)
def test_the_visitor_is_the_last_address_that_is_no_proxy(remote: str, forwarded: str, visitor: str) -> None:
    assert client_address({"REMOTE_ADDR": remote, "HTTP_X_FORWARDED_FOR": forwarded}, PROXIES) == visitor


def test_without_a_declared_proxy_the_header_says_nothing() -> None:
    assert client_address({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}, ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("proxy.example", "'proxy.example': give the address of the proxy"),
        ("", "give the address"),
        ("10.0.0.1:80", "give the address"),
        ("10.0.0.5/8", "the bits after the prefix are zero"),
        ("0.0.0.0/0", "trusts every visitor"),
        ("::/0", "trusts every visitor"),
        ("9" * 5000, "give the address"),
    ],
)
def test_what_is_no_proxy_is_refused(given: str, said: str) -> None:
    with pytest.raises(TunerError, match=said) as error:
        parse_proxies([given])
    assert len(str(error.value)) < 500
