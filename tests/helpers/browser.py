"""The dashboard as people see it: `tuner dashboard` in a process of its own, a proxy before it, Chromium."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers.fork_server import start_python

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SPACE = """
from tuner import Recipe, maximize, use

GOAL = maximize("iou")


def suggest(trial):
    lr = trial.suggest_float("lr", 1e-3, 1e-2, log=True)
    data = use("shapes", image_size=32)
    return Recipe("binary", data, use("unet", k=4), use("bce"), use("adam", lr=lr), epochs={epochs})
"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def dashboard(folder: Path, *options: str, **env: str) -> Iterator[str]:
    """`tuner dashboard` as a user starts it and ends it; its own first line says where it is."""
    server = start_python(
        "tuner.cli", "dashboard", "--port", "0", *options,
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
    )  # fmt: skip
    assert server.stdout and server.stderr
    try:
        first = server.stdout.readline()
        assert first, server.stderr.read()
        yield first.split()[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.communicate()


@contextmanager
def proxy(address: str) -> Iterator[str]:
    """A reverse proxy, as nginx is told in docs/dashboard.md: all but /tuner is somebody else's. Its address."""
    port = int(address.split(":")[2].split("/")[0])

    class Proxy(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            if not self.path.startswith("/tuner/"):
                self.server.strays.append(self.path)  # type: ignore[attr-defined]
                return self.send_error(404, "another site's")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            behind = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            whole = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "date", "server", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)
            behind.close()
            return None

        do_GET = do_POST = do_PUT = do_DELETE = pass_on  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.strays = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tuner"
        assert set(server.strays) <= {"/favicon.ico"}, server.strays  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
