"""The command that opens the dashboard."""

from __future__ import annotations

import click

from tuner.cli.common import to_home
from tuner.cli.options import FILE, FiniteFloat, Whole, artifacts_option, storage_options


@click.command()
@storage_options
@artifacts_option
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on. All but loopback addresses need a password."
)
@click.option("--port", default=8080, type=Whole(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option(
    "--password-file",
    type=FILE,
    metavar="FILE",
    help="Require the password in the first line of FILE. Or set TUNER_DASHBOARD_PASSWORD_FILE, or the "
    "password itself in TUNER_DASHBOARD_PASSWORD.",
)
@click.option(
    "--session-hours",
    type=FiniteFloat(min=0, min_open=True, max=8760),
    default=12.0,
    help="Hours until a login expires.",
)
@click.option("--read-only", is_flag=True, help="Refuse changes: notes, deleting, new studies.")
@click.option("--base-path", metavar="/PATH", help="Path prefix under which a proxy serves it.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Host name that browsers may use for it, such as the proxy's. Repeatable.",
)
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    envvar="TUNER_TRUSTED_PROXY",
    help="Address or network of a proxy in front: wrong passwords are counted by the visitor that it forwards. "
    "Repeatable.",
)
def dashboard(
    home: str, storage: str | None, artifacts: str | None, host: str, port: int, password_file: str | None,
    session_hours: float, read_only: bool, base_path: str | None, names: tuple[str, ...], proxies: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve optuna-dashboard for all studies: curves, pictures and recipes of every trial.

    On a loopback address it needs no password; docs/dashboard.md describes safe remote access.

    \b
    Example:
      tuner dashboard --host 0.0.0.0 --password-file ~/.tuner-password --read-only
    """
    from tuner.web.auth import find_password
    from tuner.web.base_path import normalize_base
    from tuner.web.proxies import parse_proxies
    from tuner.web.security import parse_host_names
    from tuner.web.server import ServerOptions, serve

    password = find_password(password_file)
    options = ServerOptions(
        host, port, password, session_hours, read_only, normalize_base(base_path), parse_host_names(names),
        parse_proxies(proxies),
    )  # fmt: skip

    def ready(url: str) -> None:
        click.echo(f"{url}   (stop with Ctrl-C)")
        if not options.is_loopback:
            click.echo(
                "tuner: passwords are sent unencrypted; use an https proxy on an untrusted network", err=True
            )

    place = to_home(home)
    try:
        serve(storage or place.database, place, artifacts, options, ready)
    except KeyboardInterrupt:
        click.echo("stopped")
