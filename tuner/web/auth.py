"""The dashboard's password, login page and sessions.

No library does this with less code at the same safety. Logging out must end a session at once, so signed cookies
(itsdangerous; flask-login, Authlib and Beaker build on such) would need the same table of sessions beside them.
werkzeug would only format and parse the cookie. pwdlib and argon2-cffi hash passwords for storage, but this one is
never stored. `limits` counts tries per time window, while here another try is allowed every few seconds.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import io
import math
import os
import re
import secrets
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from tuner.errors import TunerError
from tuner.paths import expand_path, open_file
from tuner.web import wsgi
from tuner.web.proxies import Network, client_address
from tuner.web.wsgi import App, Environ, Header, StartResponse

FILE_VARIABLE, VARIABLE = "TUNER_DASHBOARD_PASSWORD_FILE", "TUNER_DASHBOARD_PASSWORD"
MIN_LENGTH, MAX_LENGTH = 8, 1000  # characters of a password
MAX_SESSIONS, MAX_ADDRESSES = 1000, 10_000  # kept in memory
BURST, TRY_SECONDS = 10, 5.0  # wrong passwords of an address allowed at once, then one each so many seconds
ALL_BURST, ALL_SECONDS = 100, 1.0  # the same for all unknown addresses together
TURN_SECONDS = 60.0  # how long an address may use its turn
SECRETS = "/run/secrets/"  # where containers mount secrets, readable by every user of the container
HOME = "/dashboard/"
DATA_PATHS = ("/api", "/artifacts", "/csv", "/static", "/favicon.ico")  # requested by the page, not by a person


def find_password(file: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the dashboard's password from the file or the environment, or None if none is given."""
    file = file if file is not None else environment.get(FILE_VARIABLE)
    if file is not None:
        return read_password(expand_path(file))
    given = environment.get(VARIABLE)
    return None if given is None else check_password(given, f"the variable {VARIABLE}")


def read_password(path: Path) -> str:
    """Return the first line of a file; warn if every user of this host can read it."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with open_file(path, TunerError) as file, io.TextIOWrapper(file, "utf-8") as text:
            line = text.readline(MAX_LENGTH + 3).rstrip("\r\n")
    except FileNotFoundError:
        raise TunerError(f"there is no password file {path}. Write the password into its first line.") from None
    except UnicodeDecodeError:
        raise TunerError(
            f"the password file {path} is not UTF-8. Write the password into its first line."
        ) from None
    except OSError as error:
        raise TunerError(f"the password file {path} cannot be read: {error.strerror}.") from error
    if mode & stat.S_IROTH and not str(path).startswith(SECRETS):
        print(f"tuner: every user of this host can read {path}. Better: chmod 600 {path}", file=sys.stderr)
    return check_password(line, f"the first line of {path}")


def check_password(password: str, place: str) -> str:
    """Return an acceptable password, or raise TunerError; no message contains the password."""
    if not password.strip():
        raise TunerError(
            f"{place} is empty; it holds the dashboard's password, of {MIN_LENGTH} characters or more."
        )
    if len(password) < MIN_LENGTH:
        raise TunerError(f"the password in {place} is shorter than {MIN_LENGTH} characters. Choose a longer one.")
    if len(password) > MAX_LENGTH:
        raise TunerError(f"the password in {place} is longer than {MAX_LENGTH} characters. Choose a shorter one.")
    return password


def hash_text(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


@dataclass
class Sessions:
    """The sessions of this process, by random tokens; they end with the process."""

    seconds: float  # until a session expires
    clock: Callable[[], float] = time.monotonic
    ends: dict[bytes, float] = field(default_factory=dict)  # by the hash of the token
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> str:
        """Return the token of a new session; beyond MAX_SESSIONS, drop those that would expire first."""
        token = secrets.token_urlsafe(32)
        with self.lock:
            now = self.clock()
            active = [(key, end) for key, end in self.ends.items() if end > now]  # in the order of their ends
            self.ends = dict([*active, (hash_text(token), now + self.seconds)][-MAX_SESSIONS:])
        return token

    def is_active(self, token: str) -> bool:
        return bool(token) and self.ends.get(hash_text(token), 0.0) > self.clock()

    def end(self, token: str) -> None:
        with self.lock:
            self.ends.pop(hash_text(token), None)


@dataclass
class LoginThrottle:
    """Limits wrong passwords per address and in all: some at once, then one every few seconds.

    So guessing is slow from any number of addresses. One address never uses up what all have: it gets fewer tries.
    When many addresses together do, each waits for its turn, and addresses that once sent the right password and
    active sessions are not affected: nobody is locked out.
    """

    clock: Callable[[], float] = time.monotonic
    ends: dict[str, float] = field(default_factory=dict)  # by address: when its wrong tries are forgotten
    known: dict[str, None] = field(default_factory=dict)  # addresses that have sent the right password
    turns: dict[str, float] = field(default_factory=dict)  # by unknown address: from when on it may try
    all_end: float = -math.inf  # when the wrong tries of all unknown addresses are forgotten
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, address: str) -> float:
        """Count a try and return 0, or return the seconds to wait if the address has none left."""
        with self.lock:
            now = self.clock()
            until = max(now, self.ends.pop(address, now))
            wait = until - now - (BURST - 1) * TRY_SECONDS
            if wait <= 0 and address not in self.known:
                wait = self.wait_for_turn(address, now)
            self.ends[address] = until if wait > 0 else until + TRY_SECONDS
            drop_oldest(self.ends)
            return max(0.0, wait)

    def wait_for_turn(self, address: str, now: float) -> float:
        """Return the seconds until an unknown address may try; it keeps its turn from the first time it asks."""
        self.turns = {each: turn for each, turn in self.turns.items() if turn + TURN_SECONDS > now}
        if (turn := self.turns.pop(address, None)) is None:
            turn = max(now, self.all_end) - (ALL_BURST - 1) * ALL_SECONDS
            if turn > now and len(self.turns) >= MAX_ADDRESSES:
                return turn - now
            self.all_end = max(now, self.all_end) + ALL_SECONDS
        if turn > now:
            self.turns[address] = turn
        return turn - now

    def reset(self, address: str) -> None:
        """Forget the wrong tries of an address, and know it from now on: it has sent the right password."""
        with self.lock:
            self.ends.pop(address, None)
            if address not in self.known:
                self.all_end -= ALL_SECONDS
            self.known.pop(address, None)
            self.known[address] = None
            drop_oldest(self.known)


def drop_oldest(by_address: dict[str, Any]) -> None:
    """Keep the memory for addresses bounded."""
    if len(by_address) > MAX_ADDRESSES:
        del by_address[next(iter(by_address))]


@dataclass(frozen=True)
class LoginMiddleware:
    """Passes requests with an active session on to `app`, and sends all others to the login page."""

    app: App
    password_hash: bytes
    sessions: Sessions
    throttle: LoginThrottle = field(default_factory=LoginThrottle)
    base: str = ""
    proxies: tuple[Network, ...] = ()  # whose X-Forwarded-For is believed

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        path = wsgi.request_path(environ)
        if path == "/login" and wsgi.is_read_request(environ):
            wanted = parse_qs(environ.get("QUERY_STRING", "")).get("next", [HOME])[0]
            return self.show_login(environ, start, local_path(wanted))
        if path == "/login":
            return self.log_in(environ, start)
        if path == "/logout" and environ["REQUEST_METHOD"] == "POST":
            self.sessions.end(session_token(environ))
            return wsgi.redirect(environ, start, self.base + "/login", [self.cookie(environ, "", 0)])
        if self.sessions.is_active(session_token(environ)):
            return self.app(environ, start)
        return self.refuse_anonymous(environ, start)

    def refuse_anonymous(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        """Answer requests of the page's scripts with 401; redirect others to the login, which leads back."""
        path = wsgi.request_path(environ)
        if not wsgi.is_read_request(environ) or path.startswith(DATA_PATHS):
            reason = "not logged in, or no more: reload the page to log in"
            return wsgi.respond_error(environ, start, wsgi.UNAUTHORIZED, reason)
        query = environ.get("QUERY_STRING")
        wanted = local_path(quote(path) + (f"?{query}" if query else ""))
        suffix = "" if wanted in (HOME, "/") else f"?next={quote(wanted, safe='')}"
        return wsgi.redirect(environ, start, f"{self.base}/login{suffix}")

    def show_login(
        self, environ: Environ, start: StartResponse, wanted: str, alert: str = "", status: str = "200 OK",
        headers: Iterable[Header] = (),
    ) -> Iterable[bytes]:  # fmt: skip
        page = PAGE.replace("ACTION", escape(self.base + "/login"))
        page = page.replace("ALERT", f'<p role="alert">{escape(alert)}</p>' if alert else "")
        body = page.replace("NEXT", escape(wanted)).encode()  # last: it comes from the request
        headers = [wsgi.NO_STORE, ("Content-Security-Policy", POLICY), *headers]
        return wsgi.respond(environ, start, body, "text/html; charset=utf-8", status, headers)

    def log_in(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        form = read_form(environ)
        wanted = local_path(form.get("next", HOME))
        address = client_address(environ, self.proxies)
        if wait := self.throttle.take(address):
            seconds = str(int(wait) + 1)
            alert = f"Too many wrong passwords. Try again in {seconds} s."
            retry = [("Retry-After", seconds)]
            return self.show_login(environ, start, wanted, alert, "429 Too Many Requests", retry)
        if not hmac.compare_digest(hash_text(form.get("password", "")), self.password_hash):
            return self.show_login(environ, start, wanted, "That is not the password.", "403 Forbidden")
        self.throttle.reset(address)
        self.sessions.end(session_token(environ))
        cookie = self.cookie(environ, self.sessions.start(), int(self.sessions.seconds))
        return wsgi.redirect(environ, start, self.base + wanted, [cookie])

    def cookie(self, environ: Environ, token: str, seconds: int) -> Header:
        parts = [f"{cookie_name(environ)}={token}", f"Path={self.base or '/'}", f"Max-Age={seconds}"]
        scheme = wsgi.request_header(environ, "X-Forwarded-Proto") or environ.get("wsgi.url_scheme")
        secure = ["Secure"] if scheme == "https" else []
        return "Set-Cookie", "; ".join([*parts, "HttpOnly", "SameSite=Strict", *secure])


def require_login(
    app: App, password: str, hours: float, base: str = "", proxies: tuple[Network, ...] = ()
) -> LoginMiddleware:
    return LoginMiddleware(app, hash_text(password), Sessions(hours * 3600), base=base, proxies=proxies)


def cookie_name(environ: Environ) -> str:
    """Return a name with the port: cookies are shared by all ports of a host, and so by all dashboards there."""
    return f"tuner_{environ.get('SERVER_PORT', '')}"


def session_token(environ: Environ) -> str:
    """Return the token that the browser sent, or ""."""
    wanted = cookie_name(environ)
    parts = wsgi.request_header(environ, "Cookie").split(";")  # http.cookies drops all if one is malformed
    pairs = (part.strip().partition("=") for part in parts)
    return next((value for name, _, value in pairs if name == wanted), "")


def read_form(environ: Environ) -> dict[str, str]:
    """Return the fields of a form; none if it is larger than a login can be."""
    try:
        text = wsgi.read_body(environ, 8 * MAX_LENGTH).decode("utf-8", "replace")
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=10)
    except (wsgi.RequestError, ValueError):  # ValueError: too many fields
        return {}
    return {name: values[0] for name, values in fields.items()}


def local_path(path: str) -> str:
    """Return a path of this server unchanged, else the first page: no redirect leads to another server."""
    is_local = re.fullmatch(r"/(?!/)[!-\[\]-~]*", path)  # printable ASCII but the backslash
    return path if is_local and not path.startswith(("/login", "/logout")) else HOME


POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>tuner: log in</title>
<style>
  :root { color-scheme: light dark; --ground: #f3f5f8; --card: #fff; --text: #1c2430; --grey: #5b6675;
          --line: #c9d1db; --blue: #1f5fa8; --red: #b3261e }
  @media (prefers-color-scheme: dark) {
    :root { --ground: #12161c; --card: #1b212a; --text: #e6eaf0; --grey: #9aa5b4; --line: #3a4452;
            --blue: #7ab2f0; --red: #ff8a80 }
    button { color: #12161c !important }
  }
  * { box-sizing: border-box }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 16px;
         background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif }
  form { width: 100%; max-width: 22rem; padding: 28px; background: var(--card); border: 1px solid var(--line);
         border-radius: 12px }
  h1 { margin: 0; font-size: 1.35rem }
  p { margin: 4px 0 20px; color: var(--grey) }
  p[role=alert] { margin: 12px 0 0; color: var(--red) }
  label { display: block; margin-bottom: 6px; font-size: .9rem }
  input, button { width: 100%; padding: 11px 12px; font: inherit; border-radius: 8px }
  input { background: var(--ground); color: inherit; border: 1px solid var(--line) }
  button { margin-top: 16px; border: 0; background: var(--blue); color: #fff; font-weight: 600; cursor: pointer }
  :focus-visible { outline: 2px solid var(--blue); outline-offset: 2px }
</style>
<form method="post" action="ACTION">
  <h1>tuner</h1>
  <p>Studies, trials and pictures</p>
  <input type="hidden" name="next" value="NEXT">
  <label for="password">Password</label>
  <input id="password" name="password" type="password" autocomplete="current-password" required autofocus>
  ALERT
  <button>Log in</button>
</form>
</html>
"""
