"""The login: accepted passwords, sessions and their end, redirects, and limits on guessing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.wsgi_client import ask, nothing_behind

from tuner.errors import TunerError
from tuner.web.auth import (
    ALL_BURST,
    ALL_SECONDS,
    BURST,
    MAX_SESSIONS,
    TRY_SECONDS,
    TURN_SECONDS,
    LoginMiddleware,
    LoginThrottle,
    Sessions,
    find_password,
    hash_text,
    require_login,
)
from tuner.web.proxies import parse_proxies

RIGHT = "correct horse"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(clock: Clock) -> LoginMiddleware:
    return LoginMiddleware(nothing_behind, hash_text(RIGHT), Sessions(3600, clock), LoginThrottle(clock))


def secret(folder: Path, text: str | bytes, mode: int = 0o600) -> str:
    path = folder / "password"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


# Passwords


@pytest.mark.parametrize("text", [RIGHT, f"{RIGHT}\n", f"{RIGHT}\r\n", f"{RIGHT}\nmore\n"])
def test_the_first_line_of_the_file_is_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert find_password(secret(tmp_path, text), {}) == RIGHT
    assert capsys.readouterr() == ("", "")


def test_spaces_belong_to_a_password(tmp_path: Path) -> None:
    assert find_password(secret(tmp_path, f" {RIGHT} \n"), {}) == f" {RIGHT} "


def test_the_option_goes_before_the_variables_and_the_file_before_the_password(tmp_path: Path) -> None:
    file = secret(tmp_path, RIGHT)
    plain = {"TUNER_DASHBOARD_PASSWORD": "battery staple"}
    assert find_password(None, {}) is None
    assert find_password(None, plain) == "battery staple"
    assert find_password(None, {**plain, "TUNER_DASHBOARD_PASSWORD_FILE": file}) == RIGHT
    assert find_password(file, {**plain, "TUNER_DASHBOARD_PASSWORD_FILE": "/nowhere"}) == RIGHT


def test_a_file_that_all_can_read_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_password(secret(tmp_path, RIGHT, 0o644), {}) == RIGHT
    out, err = capsys.readouterr()
    assert out == "" and "chmod 600" in err and len(err.splitlines()) == 1 and "horse" not in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\nsecond line\n", "is empty"),
        ("   \n", "is empty"),
        ("horse\n", "shorter than 8"),
        ("horse" * 300, "longer than 1000"),
        (b"\xff\xfe\x00horse\x80", "is not UTF-8"),
    ],
)
def test_a_password_that_is_none_is_refused_without_showing_it(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    with pytest.raises(TunerError, match=said) as error:
        find_password(secret(tmp_path, text), {})
    assert "horse" not in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("value", "said"), [("", "is empty"), ("horse", "shorter")])
def test_the_variable_is_held_to_the_same(value: str, said: str) -> None:
    with pytest.raises(TunerError, match=said) as error:
        find_password(None, {"TUNER_DASHBOARD_PASSWORD": value})
    assert "TUNER_DASHBOARD_PASSWORD" in str(error.value) and "horse" not in str(error.value)


def test_a_file_that_is_missing_or_a_folder_or_named_by_an_empty_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TunerError, match=r"no password file .*nowhere"):
        find_password(str(tmp_path / "nowhere"), {})
    with pytest.raises(TunerError, match="cannot be read: Is a directory"):
        find_password(str(tmp_path), {})
    with pytest.raises(TunerError, match="cannot be read: Is a directory"):
        find_password(None, {"TUNER_DASHBOARD_PASSWORD_FILE": ""})


def test_a_fifo_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TunerError, match="fifo is a FIFO; a regular file is needed"):
        find_password(None, {"TUNER_DASHBOARD_PASSWORD_FILE": str(tmp_path / "fifo")})
    with pytest.raises(TunerError, match="is a device; a regular file is needed"):
        find_password("/dev/zero", {})


# Who is let in


def log_in(app: LoginMiddleware, password: str = RIGHT, wanted: str = "/dashboard/", **given: str):  # type: ignore[no-untyped-def]
    return ask(app, "/login", form={"password": password, "next": wanted}, **given)


def test_nobody_is_let_in_without_the_password(app: LoginMiddleware) -> None:
    for path in ("/", "/dashboard/", "/dashboard/studies/1", "/anything"):
        refused = ask(app, path)
        assert refused.code == 303 and refused.headers["Location"].startswith("/login") and refused.body == b""
    for path in ("/api/studies", "/api/studies/1?after=0", "/artifacts/1/1/aa", "/csv/1", "/static/bundle.js"):
        refused = ask(app, path)
        assert refused.code == 401 and b'"reason"' in refused.body
    for method in ("POST", "PUT", "DELETE"):
        assert ask(app, "/dashboard/", method).code == 401


def test_the_right_password_opens_and_a_wrong_one_does_not(app: LoginMiddleware) -> None:
    wrong = log_in(app, "correct hors")
    assert wrong.code == 403 and "Set-Cookie" not in wrong.headers and b"not the password" in wrong.body
    for odd in ("", RIGHT + "\x00", RIGHT.upper(), "ü" * 20):
        assert log_in(app, odd).code == 403
    right = log_in(app)
    assert right.code == 303 and right.headers["Location"] == "/dashboard/"
    assert ask(app, "/api/studies", cookie=right.cookie).body == b"behind /api/studies"


def test_what_the_cookie_may_do(app: LoginMiddleware) -> None:
    plain = log_in(app).headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"} <= set(
        plain.split("; ")
    ) and "Secure" not in plain
    assert "Secure" in log_in(app, x_forwarded_proto="https").headers["Set-Cookie"].split("; ")
    below = require_login(nothing_behind, RIGHT, 1, "/tuner")
    assert "Path=/tuner" in log_in(below).headers["Set-Cookie"].split("; ")


def test_forged_altered_and_foreign_sessions_are_refused(app: LoginMiddleware) -> None:
    right = log_in(app).cookie
    name, _, token = right.partition("=")
    other = log_in(require_login(nothing_behind, RIGHT, 1)).cookie  # the same password, another process
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    odd = [
        "",
        "x",
        f"{name}=",
        f"{name}={altered}",
        f"{name}={token}x",
        f"other={token}",
        other,
        f"{name}=\x7f;;=",
        "[]",
    ]
    for cookie in odd:
        assert ask(app, "/api/studies", cookie=cookie).code == 401
    for other in (
        "a=b",
        "odd one",
        'json={"a": "b c"}',
        "a[b]=1",
    ):  # browsers send those of the host's other ports
        assert ask(app, "/api/studies", cookie=f"{other}; {right}").code == 200


def test_a_session_ends(app: LoginMiddleware, clock: Clock) -> None:
    cookie = log_in(app).cookie
    clock.now += 3599
    assert ask(app, "/api/studies", cookie=cookie).code == 200
    clock.now += 1
    assert ask(app, "/api/studies", cookie=cookie).code == 401
    assert ask(app, "/dashboard/", cookie=cookie).code == 303


def test_whoever_logs_out_is_out_and_nobody_else(app: LoginMiddleware) -> None:
    mine, other = log_in(app).cookie, log_in(app).cookie
    gone = ask(app, "/logout", form={}, cookie=mine)
    assert gone.code == 303 and gone.headers["Location"] == "/login" and "Max-Age=0" in gone.headers["Set-Cookie"]
    assert ask(app, "/api/studies", cookie=mine).code == 401
    assert ask(app, "/api/studies", cookie=other).code == 200
    assert ask(app, "/logout", cookie=other).body == b"behind /logout"  # a link logs nobody out
    assert ask(app, "/api/studies", cookie=other).code == 200


def test_sessions_do_not_pile_up(clock: Clock) -> None:
    sessions = Sessions(10, clock)
    tokens = [sessions.start() for _ in range(3)]
    clock.now += 5
    tokens += [sessions.start() for _ in range(MAX_SESSIONS)]
    assert (
        len(sessions.ends) == MAX_SESSIONS and sessions.is_active(tokens[-1]) and not sessions.is_active(tokens[0])
    )
    clock.now += 10
    sessions.start()
    assert len(sessions.ends) == 1


# Where one is led


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ("/dashboard/studies/1/trials?numbers=0", "/dashboard/studies/1/trials?numbers=0"),
        ("//evil.example", "/dashboard/"),
        ("/\\evil.example", "/dashboard/"),
        ("https://evil.example/", "/dashboard/"),
        ("javascript:alert(1)", "/dashboard/"),
        ("/a\r\nSet-Cookie: x=y", "/dashboard/"),
        ("/a\tb", "/dashboard/"),
        ("/ü", "/dashboard/"),
        ("/logout", "/dashboard/"),
        ("", "/dashboard/"),
    ],
)
def test_one_is_led_on_within_this_server_only(app: LoginMiddleware, wanted: str, reached: str) -> None:
    assert log_in(app, wanted=wanted).headers["Location"] == reached


def test_one_is_led_back_to_where_one_wanted_to_go(app: LoginMiddleware) -> None:
    asked = ask(app, "/dashboard/studies/1/trials?numbers=0&x=%22")
    assert asked.headers["Location"] == "/login?next=%2Fdashboard%2Fstudies%2F1%2Ftrials%3Fnumbers%3D0%26x%3D%2522"
    page = ask(app, asked.headers["Location"]).body.decode()
    assert 'value="/dashboard/studies/1/trials?numbers=0&amp;x=%22"' in page
    assert ask(app, "//evil.example/").headers["Location"] == "/login"
    below = require_login(nothing_behind, RIGHT, 1, "/tuner")
    assert ask(below, "/dashboard/x").headers["Location"] == "/tuner/login?next=%2Fdashboard%2Fx"
    assert log_in(below, wanted="/dashboard/x").headers["Location"] == "/tuner/dashboard/x"


def test_what_is_wanted_cannot_break_out_of_the_page(app: LoginMiddleware) -> None:
    page = ask(app, '/login?next=/"><script>alert(1)</script>').body.decode()
    assert "<script" not in page
    policy = ask(app, "/login").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script" not in policy


# Guessing


def test_guessing_is_slow_and_locks_out_nobody_for_ever(app: LoginMiddleware, clock: Clock) -> None:
    mine = log_in(app).cookie
    assert [log_in(app, f"guess number {at}").code for at in range(BURST)] == [403] * BURST
    late = log_in(app)
    assert late.code == 429 and 1 <= int(late.headers["Retry-After"]) <= TRY_SECONDS + 1
    assert "Set-Cookie" not in late.headers
    assert ask(app, "/api/studies", cookie=mine).code == 200  # who is in notices nothing
    assert log_in(app, address="192.0.2.7").code == 303  # nor does another address
    clock.now += TRY_SECONDS
    assert log_in(app).code == 303
    assert log_in(app, "wrong again").code == 403  # all is forgiven


def guess_for(app: LoginMiddleware, clock: Clock, seconds: int, addresses: list[str], guesses: int = 10) -> int:
    """Return how many of the guesses that each address sends in each second are compared with the password."""
    compared = 0
    for _ in range(seconds):
        clock.now += 1
        for address in addresses * guesses:
            compared += log_in(app, "some guess", address=address).code == 403
    return compared


BOTS = [f"203.0.{at}.1" for at in range(200)]


@pytest.mark.slow
def test_guessing_from_many_addresses_is_as_slow_as_from_a_few(app: LoginMiddleware, clock: Clock) -> None:
    assert guess_for(app, clock, 1, BOTS) <= ALL_BURST  # of 2,000
    assert guess_for(app, clock, 20, BOTS, 1) <= 20 / ALL_SECONDS + 1


def test_whoever_logged_in_before_is_not_kept_out_by_guesses_from_elsewhere(
    app: LoginMiddleware, clock: Clock
) -> None:
    mine = log_in(app, address="192.0.2.7").cookie
    guess_for(app, clock, 3, BOTS, 1)
    assert ask(app, "/api/studies", cookie=mine).code == 200
    assert log_in(app, address="192.0.2.7").code == 303


def test_a_new_visitor_has_a_turn_while_many_addresses_guess(app: LoginMiddleware, clock: Clock) -> None:
    few = BOTS[:30]
    guess_for(app, clock, 1, few)
    late = log_in(app, address="192.0.2.7")
    wait = int(late.headers["Retry-After"])
    assert late.code == 429 and wait <= (len(few) + 1) * ALL_SECONDS + 1
    guess_for(app, clock, wait, few, 1)
    assert log_in(app, address="192.0.2.7").code == 303
    assert log_in(app, address="192.0.2.8").code == 429  # a turn is for one address


def test_one_address_alone_does_not_use_up_what_all_have(app: LoginMiddleware, clock: Clock) -> None:
    guess_for(app, clock, 300, ["203.0.113.5"], 1)
    assert [log_in(app, f"typo {at}", address=f"192.0.2.{at}").code for at in range(30)] == [403] * 30


def test_any_number_of_visitors_may_log_in_at_once(app: LoginMiddleware) -> None:
    codes = [log_in(app, address=f"10.0.{at // 250}.{at % 250}").code for at in range(2 * ALL_BURST)]
    assert set(codes) == {303}


def test_turns_do_not_pile_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.web.auth.MAX_ADDRESSES", 3)
    tries = LoginThrottle(clock)
    waits = [tries.take(f"198.51.100.{at}") for at in range(ALL_BURST + 9)][ALL_BURST:]
    assert waits == [1, 2, 3, 4, 4, 4, 4, 4, 4] and len(tries.turns) == 3
    clock.now += 3 + TURN_SECONDS
    tries.take("192.0.2.1")
    assert not tries.turns
    for at in range(9):
        tries.reset(f"192.0.2.{at}")
    assert list(tries.known) == ["192.0.2.6", "192.0.2.7", "192.0.2.8"]


def test_behind_a_proxy_wrong_passwords_count_for_the_visitor_that_it_forwards(clock: Clock) -> None:
    sessions, proxies = Sessions(3600, clock), parse_proxies(["10.0.0.1"])
    app = LoginMiddleware(nothing_behind, hash_text(RIGHT), sessions, LoginThrottle(clock), proxies=proxies)
    through = {"address": "10.0.0.1"}
    codes = [
        log_in(app, "guess", x_forwarded_for=f"198.51.100.{at}, 192.0.2.1", **through).code for at in range(99)
    ]
    assert codes == [403] * BURST + [429] * (99 - BURST)  # what the visitor writes in front makes no difference
    assert log_in(app, x_forwarded_for="192.0.2.2", **through).code == 303
    elsewhere = {"address": "10.0.0.2"}
    codes = [log_in(app, "guess", x_forwarded_for=f"192.0.2.{at}", **elsewhere).code for at in range(99)]
    assert codes == [403] * BURST + [429] * (99 - BURST)  # nobody has declared this one


@pytest.mark.parametrize("body", ["a=1&" * 50, "password=" + "x" * 9000, "%FF=%FF&&==", "password"])
def test_a_malformed_form_is_a_wrong_password(app: LoginMiddleware, body: str) -> None:
    refused = ask(app, "/login", "POST", raw=body.encode())
    assert refused.code == 403 and b"not the password" in refused.body


def test_addresses_do_not_pile_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.web.auth.MAX_ADDRESSES", 3)
    tries = LoginThrottle(clock)
    assert [tries.take(f"192.0.2.{at}") for at in range(9)] == [0.0] * 9
    assert list(tries.ends) == ["192.0.2.6", "192.0.2.7", "192.0.2.8"]


@pytest.mark.parametrize("length", ["-1", "x", "1000000000", ""])
def test_a_form_of_no_sensible_length_is_not_read(length: str) -> None:
    from tuner.web.auth import read_form

    assert (
        read_form({"CONTENT_LENGTH": length, "wsgi.input": None if length else __import__("io").BytesIO()}) == {}
    )
