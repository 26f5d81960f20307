"""The dashboard below a base path: requests, redirects, and the changed page and script."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from helpers.wsgi_client import ask, nothing_behind

from tuner.errors import TunerError
from tuner.web import base_path
from tuner.web.base_path import ROUTER, BasePathMiddleware, PageMiddleware, check_base_path, normalize_base

BELOW = BasePathMiddleware(nothing_behind, "/tuner")


@pytest.mark.parametrize(
    ("given", "base"),
    [(None, ""), ("", ""), ("/", ""), ("tuner", "/tuner"), ("/tuner/", "/tuner"), ("/a/b-c.d/", "/a/b-c.d")],
)
def test_a_path_as_it_is_typed(given: str | None, base: str) -> None:
    assert normalize_base(given) == base


@pytest.mark.parametrize(
    "given", ["/a b", "https://x/y", "/a//b", "/..", "/a/../b", "/a?b", '/"x', "/a\r\nb", "/ü"]
)
def test_what_is_no_path_is_refused(given: str) -> None:
    with pytest.raises(TunerError, match=r"--base-path .* is not a valid path"):
        normalize_base(given)


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/tuner", "/"),
        ("/tuner/", "/"),
        ("/tuner/api/studies", "/api/studies"),
        ("/tuner/tuner/x", "/tuner/x"),
    ],
)
def test_the_prefix_is_taken_off(target: str, seen: str) -> None:
    assert ask(BELOW, target).body == f"behind {seen}".encode()


def test_what_is_not_below_it_is_not_there() -> None:
    for target in ("/api/studies", "/tunerx/api", "/tuner2", "/login"):
        assert ask(BELOW, target).code == 404
    for target in ("/", "/dashboard", "/dashboard/"):
        assert ask(BELOW, target).headers["Location"] == "/tuner/dashboard/"


def test_a_proxy_that_took_it_off_says_so_and_no_other_prefix_is_believed() -> None:
    assert ask(BELOW, "/api/studies", x_forwarded_prefix="/tuner").body == b"behind /api/studies"
    assert ask(BELOW, "/api/studies", x_forwarded_prefix="/tuner/").body == b"behind /api/studies"
    assert ask(BELOW, "/api/studies", x_forwarded_prefix="/evil").code == 404
    assert b"/evil" not in ask(PageMiddleware(nothing_behind), "/dashboard/", x_forwarded_prefix="/evil").body


@pytest.mark.parametrize(
    ("said", "leads"),
    [
        ("/dashboard", "/tuner/dashboard"),
        ("/tuner/login?next=%2Fx", "/tuner/login?next=%2Fx"),
        ("http://127.0.0.1:8080/dashboard", "/tuner/dashboard"),
    ],
)
def test_what_leads_elsewhere_keeps_the_prefix(said: str, leads: str) -> None:
    def leading(environ: object, start: object) -> list[bytes]:
        start("302 Found", [("Location", said), ("Content-Type", "text/plain")])  # type: ignore[operator]
        return [b""]

    assert ask(BasePathMiddleware(leading, "/tuner"), "/tuner/x").headers["Location"] == leads


def test_the_page_names_its_scripts_below_the_prefix_and_is_told_the_way_out() -> None:
    page = ask(PageMiddleware(nothing_behind, "/tuner", has_login=True, read_only=True), "/dashboard/studies/1")
    text = page.body.decode()
    assert text.index("/tuner/static/base.js") < text.index("/tuner/static/bundle.js")
    assert 'action="/tuner/logout"' in text and "read-only" in text
    assert "'unsafe-inline'" not in page.headers["Content-Security-Policy"].split("script-src")[1].split(";")[0]
    assert 'id="tuner-corner"' not in ask(PageMiddleware(nothing_behind), "/dashboard").body.decode()
    assert ask(PageMiddleware(nothing_behind, "/tuner"), "/").headers["Location"] == "/tuner/dashboard/"


def test_the_scripts_know_the_prefix() -> None:
    below = PageMiddleware(nothing_behind, "/tuner")
    assert b'base = "/tuner"' in ask(below, "/static/base.js").body
    plain, packed = ask(below, "/static/bundle.js"), ask(below, "/static/bundle.js", accept_encoding="gzip, br")
    assert gzip.decompress(packed.body) == plain.body and packed.headers["Content-Encoding"] == "gzip"
    assert b'url_prefix:"/tuner/dashboard"' in plain.body and ROUTER not in plain.body
    at_root = PageMiddleware(nothing_behind)
    assert ask(at_root, "/static/bundle.js").body == b"behind /static/bundle.js"
    assert ask(at_root, "/static/base.js").body == b"behind /static/base.js"
    assert ask(below, "/dashboard/", "POST").body == b"behind /dashboard/"


def test_a_dashboard_whose_script_has_changed_is_not_served_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_base_path("/tuner")
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "bundle.js").write_text("another")
    (tmp_path / "index.html").write_text("<p>another</p>")
    monkeypatch.setattr(base_path, "dashboard_files", lambda: tmp_path)
    check_base_path("")
    with pytest.raises(TunerError, match="cannot be put below a path"):
        check_base_path("/tuner")
