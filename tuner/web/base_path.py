"""The dashboard's page, with a log-out button, and under the path that a proxy gives it.

optuna-dashboard has no setting for a base path: its page, its script and the URLs in notes are changed on the way.
"""

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
from tuner.web import wsgi
from tuner.web.dashboard_compat import ROUTER, dashboard_files
from tuner.web.wsgi import App, Environ, Header, StartResponse

PAGE, BUNDLE, SHIM, ANSWERS = "/dashboard", "/static/bundle.js", "/static/base.js", "/static/answers.js"
BASE = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
DEFERRED = '<script defer src="/static/'  # in the page, before the name of its script
SCRIPT = "text/javascript; charset=utf-8"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; style-src 'self' data: 'unsafe-inline'; "
    "script-src 'self' 'unsafe-eval'; "  # WebGL plots compile functions of their own
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def normalize_base(path: str | None) -> str:
    """Return --base-path with a leading slash and no trailing one, "" for the root; raise TunerError for a URL."""
    base = f"/{(path or '').strip('/')}".rstrip("/")
    if base and (not BASE.fullmatch(base) or {".", ".."} & set(base.split("/"))):
        raise TunerError(
            f"--base-path {path!r} is not a valid path. Give the one at which the proxy has it, such as /tuner"
        )
    return base


@dataclass(frozen=True)
class BasePathMiddleware:
    """Removes the base path from requests and adds it to redirects, so that `app` works as if at the root.

    A proxy passes the base path on, or removes it and sends X-Forwarded-Prefix; both are understood.
    """

    app: App
    base: str

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        path = wsgi.request_path(environ)
        if path == self.base or path.startswith(self.base + "/"):
            environ = {**environ, "SCRIPT_NAME": self.base, "PATH_INFO": path.removeprefix(self.base) or "/"}
        elif wsgi.request_header(environ, "X-Forwarded-Prefix").rstrip("/") != self.base:
            if path in ("/", PAGE, PAGE + "/"):
                return wsgi.redirect(environ, start, f"{self.base}{PAGE}/")
            return wsgi.respond_error(environ, start, wsgi.NOT_FOUND, f"the dashboard is below {self.base}/")

        def start_with_base(status: str, headers: list[Header], *more: object) -> object:
            placed = [(n, self.add_base(value) if n.lower() == "location" else value) for n, value in headers]
            return start(status, placed, *more)

        return self.app(environ, start_with_base)

    def add_base(self, address: str) -> str:
        """Return the path of a URL below the base path, without scheme and host: the proxy has others."""
        parts = urlsplit(address)
        path = parts.path if parts.path.startswith(self.base + "/") else self.base + parts.path
        return path + (f"?{parts.query}" if parts.query else "")


@dataclass(frozen=True)
class PageMiddleware:
    """Answers requests for the page and its scripts, and passes all others on to `app`."""

    app: App
    base: str = ""
    has_login: bool = False
    read_only: bool = False

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        path = wsgi.request_path(environ)
        if not wsgi.is_read_request(environ):
            return self.app(environ, start)
        if path == "/":
            return wsgi.redirect(environ, start, f"{self.base}{PAGE}/")
        if path == PAGE or path.startswith(PAGE + "/"):
            headers = [("Content-Security-Policy", POLICY), wsgi.NO_STORE]
            return wsgi.respond(environ, start, self.page, "text/html; charset=utf-8", headers=headers)
        if path == ANSWERS:
            return wsgi.respond(environ, start, ANSWERS_SCRIPT.encode(), SCRIPT)
        if self.base and path == SHIM:
            script = SHIM_SCRIPT.replace("BASE", json.dumps(self.base)).encode()
            return wsgi.respond(environ, start, script, SCRIPT)
        if self.base and path == BUNDLE:
            return self.send_bundle(environ, start)
        return self.app(environ, start)

    def send_bundle(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        packed = wsgi.accepts_gzip(environ)
        body = self.bundle if packed else gzip.decompress(self.bundle)
        headers = [("Cache-Control", "private, max-age=3600"), ("Vary", "Accept-Encoding")]
        headers += [("Content-Encoding", "gzip")] * packed
        return wsgi.respond(environ, start, body, SCRIPT, headers=headers)

    @cached_property
    def page(self) -> bytes:
        """optuna-dashboard's page, with its scripts below the base path and the corner."""
        text = (dashboard_files() / "index.html").read_text(encoding="utf-8")
        scripts = [SHIM, ANSWERS] if self.base else [ANSWERS]
        ours = "".join(f'<script src="{self.base}{name}"></script>\n    ' for name in scripts)
        text = text.replace(DEFERRED, ours + DEFERRED.replace("/static/", f"{self.base}/static/"))
        text = text.replace("</head>", f'<link rel="icon" href="{self.base}/favicon.ico">\n</head>')
        return text.replace("</body>", f"{self.corner}{STYLE}</body>").encode()

    @property
    def corner(self) -> str:
        """The HTML in the upper right corner of the page: a read-only mark and the log-out button."""
        mark = '<span title="Nothing can be changed here">read-only</span>' if self.read_only else ""
        action = escape(f"{self.base}/logout")
        out = f'<form method="post" action="{action}"><button>Log out</button></form>' if self.has_login else ""
        return f'<div id="tuner-corner">{mark}{out}</div>' if mark or out else ""

    @cached_property
    def bundle(self) -> bytes:
        """The page's script with the base path, compressed; made on the first request."""
        whole = (dashboard_files() / "public" / "bundle.js").read_bytes()
        return gzip.compress(whole.replace(ROUTER, ROUTER.replace(b'"/', f'"{self.base}/'.encode())), 6)


def check_base_path(base: str) -> None:
    """Raise TunerError if the page or script of the installed optuna-dashboard cannot be given this base path."""
    count = (dashboard_files() / "public" / "bundle.js").read_bytes().count(ROUTER)
    page = (dashboard_files() / "index.html").read_text(encoding="utf-8")
    if base and (count != 1 or DEFERRED not in page):
        raise TunerError(
            "this version of optuna-dashboard cannot be put below a path. "
            "Install 0.21, or give it a host name of its own at the proxy instead of --base-path."
        )


# On a trial's page, which has h4 and h5, long lines are wrapped, and pictures come before note and attributes.
STYLE = """<style>
main pre, main pre * { white-space: pre-wrap !important }
main:has(h4 ~ h5), main :has(h4 ~ h5), main :has(> h4 ~ h5) * { min-width: 0; overflow-wrap: anywhere }
main :has(> h4 ~ h5) table { min-width: max-content }
main :has(> h4 ~ h5 + .MuiPaper-root) { display: flex; flex-direction: column }
main :has(> h4) > :is(h5, h5 + .MuiPaper-root) { order: 2 }
main :has(> h4) > h5 + .MuiPaper-root + div { order: 3 }
main :has(> h4) > h5 + .MuiPaper-root + div * { white-space: pre-wrap }
main :has(> h4) > h5 + .MuiPaper-root + div ~ * { order: 1 }
#tuner-corner { position: fixed; right: 12px; top: 18px; z-index: 1300; display: flex; gap: 8px }
#tuner-corner span, #tuner-corner button { padding: 4px 12px; border: 1px solid #ffffffb0; border-radius: 99px;
  background: none; color: #fff; font: 13px/1.4 system-ui, sans-serif }
#tuner-corner button { cursor: pointer }
#tuner-corner button:hover { background: #ffffff30 }
#tuner-answer { position: fixed; left: 12px; right: 12px; bottom: 72px; z-index: 1500; width: fit-content;
  max-width: 800px; padding: 10px 16px; border-radius: 4px; background: #323232; color: #fff;
  font: 14px/1.4 system-ui, sans-serif; overflow-wrap: anywhere; cursor: pointer }
@media (max-width: 600px) { #tuner-corner { top: 14px } }
@media print { #tuner-corner, #tuner-answer { display: none } }
</style>
"""

# The dashboard's page says whether a study was deleted; this shows why not, or what is told beside it.
ANSWERS_SCRIPT = """(() => {
  const { fetch } = window, shown = document.createElement("div");
  shown.id = "tuner-answer";
  shown.setAttribute("role", "alert");
  shown.onclick = () => shown.remove();
  const show = ({ reason, remark }) => {
    shown.textContent = reason || remark || "";
    if (shown.textContent) document.body.append(shown);
  };
  window.fetch = async (url, options, ...more) => {
    const answer = await fetch(url, options, ...more);
    if (options?.method === "DELETE" && /\\/api\\/studies\\/\\d+$/.test(url)) {
      answer.clone().json().then(show, () => {});
    }
    return answer;
  };
})();
"""

# The dashboard's script asks for absolute paths, and notes name pictures by them: the base path is added to both.
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
