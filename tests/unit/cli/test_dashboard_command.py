"""`tuner dashboard` as it is typed: what is refused, in one line that shows no password."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.made_studies import make_study

from tuner.cli import main
from tuner.web import server

SECRET = "correct horse"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "TUNER_DASHBOARD_PASSWORD",
        "TUNER_DASHBOARD_PASSWORD_FILE",
        "TUNER_STORAGE",
        "TUNER_TRUSTED_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


def write(text: str, mode: int = 0o600) -> str:
    Path("password").write_text(text)
    Path("password").chmod(mode)
    return "password"


def refusal(*words: str, **env: str) -> str:
    done = CliRunner().invoke(main, ["dashboard", *words], env=env)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "horse" not in done.stderr and "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "at 0.0.0.0 it needs a password"),
        (["--host", ""], "needs a password"),
        (["--password-file", "nowhere"], "no password file nowhere"),
        (["--password-file", "."], "cannot be read"),
        (["--base-path", "/a b"], "is not a valid path"),
        (["--allow-host", "https://x"], "give a host name"),
        (["--trusted-proxy", "proxy.example"], "give the address of the proxy"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(words: list[str], said: str) -> None:
    (line,) = refusal(*words).splitlines()
    assert line.startswith("tuner: ") and said in line


@pytest.mark.parametrize(
    ("text", "said"), [("", "is empty"), ("horse", "shorter than 8"), ("\nhorses all", "is empty")]
)
def test_a_password_file_that_holds_none(text: str, said: str) -> None:
    (line,) = refusal("--password-file", write(text)).splitlines()
    assert said in line
    (line,) = refusal(TUNER_DASHBOARD_PASSWORD_FILE=write(text)).splitlines()
    assert said in line


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "x", "100000"])
def test_session_hours_are_hours(hours: str) -> None:
    assert "--session-hours" in refusal("--session-hours", hours)


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_a_port(port: str) -> None:
    assert "--port" in refusal("--port", port)


def test_everything_that_was_typed_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(Path()).engine.dispose()
    seen: list[server.ServerOptions] = []

    def serve(url: str, home: Any, artifacts: str | None, options: server.ServerOptions, ready: Any) -> None:
        seen.append(options)
        ready("http://here/dashboard/")

    monkeypatch.setattr(server, "serve", serve)
    words = ["--host", "0.0.0.0", "--port", "81", "--password-file", write(SECRET + "\n", 0o644), "--read-only"]
    words += ["--session-hours", "2", "--base-path", "tuner/", "--allow-host", "A.example", "--allow-host", "b"]
    words += ["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "172.16.0.0/12"]
    proxies = ip_network("127.0.0.1"), ip_network("172.16.0.0/12")
    done = CliRunner().invoke(main, ["dashboard", *words])
    assert done.exit_code == 0 and done.stdout.startswith("http://here/dashboard/ ")
    assert seen == [server.ServerOptions("0.0.0.0", 81, SECRET, 2.0, True, "/tuner", ("a.example", "b"), proxies)]
    readable, unencrypted = done.stderr.splitlines()
    assert "chmod 600 password" in readable and "https" in unencrypted and SECRET not in done.output
    assert CliRunner().invoke(main, ["dashboard"]).stderr == ""
    assert seen[1] == server.ServerOptions()
    CliRunner().invoke(main, ["dashboard"], env={"TUNER_TRUSTED_PROXY": "127.0.0.1 172.16.0.0/12"})
    assert seen[2] == server.ServerOptions(proxies=proxies)
