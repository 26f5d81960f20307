"""The dashboard's page itself: under the path that a proxy gives it, with what this server adds to it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from urllib.parse import urlsplit

from tuner.errors import TunerError
from tuner.web.dashboard_compat import ROUTER, dashboard_files
from tuner.web.wsgi import (
    UNKNOWN,
    App,
    Environ,
    Header,
    Start,
    answer,
    go_to,
    header_of,
    is_read,
    path_of,
    refuse,
)

PAGE, BUNDLE, SHIM = "/dashboard", "/static/bundle.js", "/static/base.js"
BASE = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
SCRIPT = "text/javascript; charset=utf-8"
POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "object-src 'none'",
        "style-src 'self' data: 'unsafe-inline'",
        "script-src 'self' 'unsafe-eval'",  # WebGL plots compile functions of their own
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def as_base(path: str | None) -> str:
    """A path as a prefix: '/tuner' of '/tuner/' and of 'tuner'; nothing of '/' and of nothing."""
    base = f"/{(path or '').strip('/')}".rstrip("/")
    if base and (not BASE.fullmatch(base) or {".", ".."} & set(base.split("/"))):
        raise TunerError(
            f"--base-path {path!r} is no path. Give the one at which the proxy has it, such as /tuner"
        )
    return base


@dataclass(frozen=True)
class Below:
    """A WSGI app that has the one behind it think that it is at the root.

    A proxy passes the prefix on, or takes it off and says so in X-Forwarded-Prefix; both are understood.
    """

    app: App
    base: str

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        path = path_of(environ)
        if path == self.base or path.startswith(self.base + "/"):
            environ = {**environ, "SCRIPT_NAME": self.base, "PATH_INFO": path.removeprefix(self.base) or "/"}
        elif header_of(environ, "X-Forwarded-Prefix").rstrip("/") != self.base:
            if path in ("/", PAGE, PAGE + "/"):
                return go_to(environ, start, f"{self.base}{PAGE}/")
            return refuse(environ, start, UNKNOWN, f"the dashboard is below {self.base}/")
        return self.app(environ, lambda status, headers, *more: start(status, self.placed(headers), *more))

    def placed(self, headers: list[Header]) -> list[Header]:
        """Where it leads to, below the prefix, and with no word of scheme and host: the proxy's are others."""
        return [(name, self.below(value) if name.lower() == "location" else value) for name, value in headers]

    def below(self, address: str) -> str:
        parts = urlsplit(address)
        path = parts.path if parts.path.startswith(self.base + "/") else self.base + parts.path
        return path + (f"?{parts.query}" if parts.query else "")


@dataclass(frozen=True)
class Shell:
    """A WSGI app that answers for the page and its scripts, and leaves all else to the one behind it."""

    app: App
    base: str = ""
    has_login: bool = False
    read_only: bool = False

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        path = path_of(environ)
        if not is_read(environ):
            return self.app(environ, start)
        if path == "/":
            return go_to(environ, start, f"{self.base}{PAGE}/")
        if path == PAGE or path.startswith(PAGE + "/"):
            headers = [("Content-Security-Policy", POLICY), ("Cache-Control", "no-store")]
            return answer(environ, start, self.page, "text/html; charset=utf-8", headers=headers)
        if self.base and path == SHIM:
            return answer(environ, start, SHIM_SCRIPT.replace("BASE", json.dumps(self.base)).encode(), SCRIPT)
        if self.base and path == BUNDLE:
            return self.send_bundle(environ, start)
        return self.app(environ, start)

    def send_bundle(self, environ: Environ, start: Start) -> Iterable[bytes]:
        packed = "gzip" in header_of(environ, "Accept-Encoding")
        body = self.bundle if packed else gzip.decompress(self.bundle)
        headers = [("Cache-Control", "private, max-age=3600"), ("Vary", "Accept-Encoding")]
        return answer(environ, start, body, SCRIPT, headers=headers + [("Content-Encoding", "gzip")] * packed)

    @cached_property
    def page(self) -> bytes:
        """optuna-dashboard's page, with the way out and the prefix."""
        text = (dashboard_files() / "index.html").read_text(encoding="utf-8")
        scripts = f'<script src="{self.base}{SHIM}"></script>\n    <script defer src="{self.base}/static/'
        if self.base:
            text = text.replace('<script defer src="/static/', scripts)
        text = text.replace("</head>", f'<link rel="icon" href="{self.base}/favicon.ico">\n</head>')
        return text.replace("</body>", f"{self.corner()}</body>").encode()

    def corner(self) -> str:
        """What stands in the corner of the page: that nothing can be changed, and the way out."""
        told = '<span title="Nothing can be changed here">read-only</span>' if self.read_only else ""
        action = escape(f"{self.base}/logout")
        out = f'<form method="post" action="{action}"><button>Log out</button></form>' if self.has_login else ""
        return f'<div id="tuner-corner">{told}{out}</div>{STYLE}' if told or out else ""

    @cached_property
    def bundle(self) -> bytes:
        """The page's script below the prefix, compressed: made when it is first asked for."""
        whole = (dashboard_files() / "public" / "bundle.js").read_bytes()
        return gzip.compress(whole.replace(ROUTER, ROUTER.replace(b'"/', f'"{self.base}/'.encode())), 6)


def refuse_base(base: str) -> None:
    """Whether the installed optuna-dashboard can be put below a path: it has no setting for it."""
    count = (dashboard_files() / "public" / "bundle.js").read_bytes().count(ROUTER)
    page = (dashboard_files() / "index.html").read_text(encoding="utf-8")
    if base and (count != 1 or '<script defer src="/static/' not in page):
        raise TunerError(
            "this version of optuna-dashboard cannot be put below a path. "
            "Install 0.21, or give it a name of its own at the proxy instead of --base-path."
        )


STYLE = """<style>
#tuner-corner { position: fixed; right: 12px; top: 18px; z-index: 1300; display: flex; gap: 8px }
#tuner-corner span, #tuner-corner button { padding: 4px 12px; border: 1px solid #ffffffb0; border-radius: 99px;
  background: none; color: #fff; font: 13px/1.4 system-ui, sans-serif }
#tuner-corner button { cursor: pointer }
#tuner-corner button:hover { background: #ffffff30 }
@media (max-width: 600px) { #tuner-corner { top: 14px } }
@media print { #tuner-corner { display: none } }
</style>
"""

# The dashboard's script asks for absolute paths, and notes name pictures by them: both are put below the prefix.
SHIM_SCRIPT = """(() => {
  const base = BASE, ours = /^\\/(api|artifacts|csv|static)(\\/|$)/;
  const placed = (url) => (typeof url === "string" && ours.test(url) ? base + url : url);
  const { fetch } = window, { open } = XMLHttpRequest.prototype, { setAttribute } = Element.prototype;
  window.fetch = (url, ...more) => fetch(placed(url), ...more);
  XMLHttpRequest.prototype.open = function (method, url, ...more) {
    return open.call(this, method, placed(url), ...more);
  };
  Element.prototype.setAttribute = function (name, value) {
    return setAttribute.call(this, name, name === "src" || name === "href" ? placed(value) : value);
  };
  for (const [kind, name] of [[HTMLImageElement, "src"], [HTMLMediaElement, "src"], [HTMLAnchorElement, "href"]]) {
    const plain = Object.getOwnPropertyDescriptor(kind.prototype, name);
    Object.defineProperty(kind.prototype, name, { ...plain, set(value) { plain.set.call(this, placed(value)); } });
  }
})();
"""
