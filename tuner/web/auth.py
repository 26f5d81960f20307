"""The password in front of the dashboard, and the sessions of those who gave it."""

from __future__ import annotations

import hashlib
import hmac
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
from urllib.parse import parse_qs, quote

from tuner.errors import TunerError
from tuner.web.wsgi import (
    NOT_LOGGED_IN,
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
    scheme_of,
)

FILE_VARIABLE, VARIABLE = "TUNER_DASHBOARD_PASSWORD_FILE", "TUNER_DASHBOARD_PASSWORD"
SHORTEST, LONGEST = 8, 1000  # characters of a password
MOST_SESSIONS, MOST_VISITORS = 1000, 10_000  # held in memory
TRIES, TRY_SECONDS = 10, 5.0  # so many wrong ones at once, then one every so many seconds
SECRETS = "/run/secrets/"  # where containers find theirs, which every user of the container can read
HOME = "/dashboard/"
DATA = ("/api", "/artifacts", "/csv", "/static", "/favicon.ico")  # asked for by the page, not by a person

# The password


def find_password(file: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The password of the dashboard, from the file or the environment; None where none is given."""
    file = file if file is not None else environment.get(FILE_VARIABLE)
    if file is not None:
        return read_password(Path(file).expanduser())
    given = environment.get(VARIABLE)
    return None if given is None else checked(given, f"the variable {VARIABLE}")


def read_password(path: Path) -> str:
    """The first line of a file; one that others can read is used, and told of."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline(LONGEST + 3).rstrip("\r\n")
    except FileNotFoundError:
        raise TunerError(f"there is no password file {path}. Write the password into its first line.") from None
    except UnicodeDecodeError:
        raise TunerError(f"the password file {path} is no text. Write the password into its first line.") from None
    except OSError as error:
        raise TunerError(f"the password file {path} cannot be read: {error.strerror}.") from error
    if mode & stat.S_IROTH and not str(path).startswith(SECRETS):
        print(f"tuner: every user of this host can read {path}. Better: chmod 600 {path}", file=sys.stderr)
    return checked(line, f"the first line of {path}")


def checked(password: str, place: str) -> str:
    """The password, if it is one that may be used. It is never part of a message."""
    if not password.strip():
        raise TunerError(f"{place} is empty; it holds the dashboard's password, of {SHORTEST} characters or more.")
    if len(password) < SHORTEST:
        raise TunerError(f"the password in {place} is shorter than {SHORTEST} characters. Choose a longer one.")
    if len(password) > LONGEST:
        raise TunerError(f"the password in {place} is longer than {LONGEST} characters. Choose a shorter one.")
    return password


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


# Sessions, and how often one may guess


@dataclass
class Sessions:
    """Who is logged in: tokens that only this process knows. They end with it."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    ends: dict[bytes, float] = field(default_factory=dict)  # by the digest of the token
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> str:
        token = secrets.token_urlsafe(32)
        with self.lock:
            now = self.clock()
            kept = sorted(((end, key) for key, end in self.ends.items() if end > now), reverse=True)
            self.ends = {key: end for end, key in kept[: MOST_SESSIONS - 1]}
            self.ends[digest(token)] = now + self.seconds
        return token

    def holds(self, token: str) -> bool:
        return bool(token) and self.ends.get(digest(token), 0.0) > self.clock()

    def end(self, token: str) -> None:
        with self.lock:
            self.ends.pop(digest(token), None)


@dataclass
class Tries:
    """How many wrong passwords each address may still give: some at once, then one every few seconds.

    So guessing is slow, nobody is locked out for long, and whoever is logged in notices nothing.
    """

    clock: Callable[[], float] = time.monotonic
    spent: dict[str, tuple[float, float]] = field(default_factory=dict)  # address -> wrong tries, as of when
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, address: str) -> float:
        """Take one: 0 where it may be looked at, or else the seconds to wait."""
        with self.lock:
            now = self.clock()
            wrong, at = self.spent.pop(address, (0.0, now))
            wrong = max(0.0, wrong - (now - at) / TRY_SECONDS)
            may = wrong <= TRIES - 1
            self.spent[address] = (wrong + may, now)
            while len(self.spent) > MOST_VISITORS:
                self.spent.pop(next(iter(self.spent)))
            return 0.0 if may else (wrong - TRIES + 1) * TRY_SECONDS

    def forgive(self, address: str) -> None:
        """It was right."""
        with self.lock:
            self.spent.pop(address, None)


# The gate


@dataclass(frozen=True)
class Gate:
    """A WSGI app that answers whoever is logged in, and shows the login to everybody else."""

    app: App
    password: bytes  # its digest
    sessions: Sessions
    tries: Tries
    base: str = ""

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        path = path_of(environ)
        if path == "/login":
            return self.form(environ, start) if is_read(environ) else self.log_in(environ, start)
        if path == "/logout" and environ["REQUEST_METHOD"] == "POST":
            self.sessions.end(token_of(environ))
            return go_to(environ, start, self.base + "/login", [self.cookie(environ, "", 0)])
        if self.sessions.holds(token_of(environ)):
            return self.app(environ, start)
        return self.turn_away(environ, start)

    def turn_away(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """A person is led to the login and, from there, to where he wanted to go."""
        path = path_of(environ)
        if not is_read(environ) or path.startswith(DATA):
            return refuse(environ, start, NOT_LOGGED_IN, "not logged in, or no more: reload the page to log in")
        query = environ.get("QUERY_STRING")
        wanted = local(quote(path) + (f"?{query}" if query else ""))
        more = "" if wanted in (HOME, "/") else f"?next={quote(wanted, safe='')}"
        return go_to(environ, start, f"{self.base}/login{more}")

    def form(self, environ: Environ, start: Start, wrong: str = "", status: str = "200 OK") -> Iterable[bytes]:
        wanted = parse_qs(environ.get("QUERY_STRING", "")).get("next", [HOME])[0]
        return self.shown(environ, start, local(wanted), wrong, status)

    def shown(
        self, environ: Environ, start: Start, wanted: str, wrong: str, status: str, more: Iterable[Header] = ()
    ) -> Iterable[bytes]:
        page = PAGE.replace("ACTION", escape(self.base + "/login")).replace("NEXT", escape(wanted))
        body = page.replace("WRONG", f'<p role="alert">{escape(wrong)}</p>' if wrong else "").encode()
        headers = [("Cache-Control", "no-store"), ("Content-Security-Policy", POLICY), *more]
        return answer(environ, start, body, "text/html; charset=utf-8", status, headers)

    def log_in(self, environ: Environ, start: Start) -> Iterable[bytes]:
        given = fields(environ)
        wanted = local(given.get("next", HOME))
        address = str(environ.get("REMOTE_ADDR", ""))
        if wait := self.tries.take(address):
            seconds = str(int(wait) + 1)
            said = f"Too many wrong passwords. Try again in {seconds} s."
            return self.shown(environ, start, wanted, said, "429 Too Many Requests", [("Retry-After", seconds)])
        if not hmac.compare_digest(digest(given.get("password", "")), self.password):
            return self.shown(environ, start, wanted, "That is not the password.", "403 Forbidden")
        self.tries.forgive(address)
        self.sessions.end(token_of(environ))
        cookie = self.cookie(environ, self.sessions.begin(), int(self.sessions.seconds))
        return go_to(environ, start, self.base + wanted, [cookie])

    def cookie(self, environ: Environ, token: str, seconds: int) -> Header:
        parts = [f"{cookie_name(environ)}={token}", f"Path={self.base or '/'}", f"Max-Age={seconds}"]
        secure = ["Secure"] if scheme_of(environ) == "https" else []
        return "Set-Cookie", "; ".join([*parts, "HttpOnly", "SameSite=Strict", *secure])


def gate(app: App, password: str, hours: float, base: str = "") -> Gate:
    return Gate(app, digest(password), Sessions(hours * 3600), Tries(), base)


def cookie_name(environ: Environ) -> str:
    """Browsers do not tell ports apart: two dashboards of a host would log each other out."""
    return f"tuner_{environ.get('SERVER_PORT', '')}"


def token_of(environ: Environ) -> str:
    """The token that the browser sent, or nothing."""
    wanted = cookie_name(environ)
    for part in header_of(environ, "Cookie").split(";"):  # not http.cookies: it drops all for one odd neighbour
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value
    return ""


def fields(environ: Environ) -> dict[str, str]:
    """What a form holds; nothing of one that is larger than a login can be."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > 8 * LONGEST:
        return {}
    text = environ["wsgi.input"].read(int(length)).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True, max_num_fields=10).items()}


def local(path: str) -> str:
    """The path if it is one of this server, else the first page: nobody is sent elsewhere from here."""
    is_ours = re.fullmatch(r"/(?!/)[!-\[\]-~]*", path)  # printable ASCII but the backslash
    return path if is_ours and not path.startswith(("/login", "/logout")) else HOME


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
  WRONG
  <button>Log in</button>
</form>
</html>
"""
