"""Requests that are always refused: under other names, from other sites, and changes if read-only."""

from __future__ import annotations

import json

import pytest
from helpers.wsgi_client import HERE, ask, nothing_behind

from tuner.errors import TunerError
from tuner.web.security import LOOPBACK, RequestFilter, parse_host_names, with_safe_headers

GUARD = RequestFilter(nothing_behind, LOOPBACK)
PAGE = {"origin": f"http://{HERE}"}
CHANGES = ("POST", "PUT", "DELETE", "PATCH")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST"])
def test_it_is_asked_for_by_its_own_names(host: str) -> None:
    assert ask(GUARD, "/dashboard/", host=host).code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost@evil.example", "", "[", "::1"],
)
def test_a_name_that_was_led_here_gets_nothing(host: str) -> None:
    refused = ask(GUARD, "/api/studies", host=host)
    assert refused.code == 403 and "--allow-host" in json.loads(refused.body)["reason"]


def test_names_can_be_added_and_elsewhere_any_is_taken_until_some_are_given() -> None:
    assert (
        ask(RequestFilter(nothing_behind, LOOPBACK, ("tuner.example",)), "/", host="tuner.example:443").code == 200
    )
    assert ask(RequestFilter(nothing_behind, ()), "/", host="any.example").code == 200


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (PAGE, 200),
        ({"origin": f"https://{HERE}"}, 200),  # the proxy took the https off
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://evil.example", "sec_fetch_site": "same-origin"}, 403),
        ({"origin": "http://127.0.0.1:9090"}, 403),  # another server of this host
        ({"origin": f"ftp://{HERE}"}, 403),
        ({"origin": HERE}, 403),
        ({"origin": "http://"}, 403),
    ],
)
def test_changes_come_from_the_own_page_alone(method: str, headers: dict[str, str], code: int) -> None:
    assert ask(GUARD, "/api/studies/1", method, **headers).code == code


def test_the_page_of_a_proxy_is_its_own_where_its_name_was_given() -> None:
    there = {"origin": "https://tuner.example"}
    assert ask(GUARD, "/api/studies", "POST", **there).code == 403
    assert (
        ask(RequestFilter(nothing_behind, LOOPBACK, ("tuner.example",)), "/api/studies", "POST", **there).code
        == 200
    )


@pytest.mark.parametrize("method", CHANGES)
def test_read_only_refuses_every_change_and_says_so(method: str) -> None:
    still = RequestFilter(nothing_behind, LOOPBACK, read_only=True)
    for path in (
        "/api/studies",
        "/api/studies/1",
        "/api/studies/1/note",
        "/api/artifacts/1/1",
        "/incompatible-rdb-schema",
    ):
        refused = ask(still, path, method, **PAGE)
        assert refused.code == 403 and "read-only" in json.loads(refused.body)["reason"]
    assert ask(still, "/login", method, **PAGE).code == ask(still, "/logout", method, **PAGE).code == 200
    assert ask(still, "/api/studies").code == ask(still, "/api/studies", "HEAD").code == 200


def test_what_browsers_are_told() -> None:
    told = ask(with_safe_headers(nothing_behind), "/").headers
    assert told["X-Content-Type-Options"] == "nosniff" and told["X-Frame-Options"] == "DENY"
    assert told["Referrer-Policy"] == "same-origin"
    assert told["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "nosniff" in ask(with_safe_headers(GUARD), "/", host="evil.example").headers.values()


def test_names_are_names() -> None:
    assert parse_host_names(["Tuner.Example.org", "192.0.2.1", "2001:db8::1"]) == (
        "tuner.example.org",
        "192.0.2.1",
        "2001:db8::1",
    )
    for odd in ("https://tuner.example", "tuner.example:443", "*", "", "a b", "tuner/x"):
        with pytest.raises(TunerError, match="give a host name"):
            parse_host_names([odd])
