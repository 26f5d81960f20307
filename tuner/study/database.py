"""Connect to a database with one engine for Optuna's tables and ours; errors become messages of one line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from tuner.errors import StorageError, escape, format_names, retry, writing
from tuner.paths import check_path, is_utf8
from tuner.study import optuna_tables
from tuner.wording import STORAGE_VARIABLE

P = ParamSpec("P")
T = TypeVar("T")
BUSY_SECONDS = 60  # how long SQLite waits for another process to finish writing
DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
TRIES = 6  # when two processes insert the same key
PATIENT_SECONDS = 600.0  # how long workers retry while the database is away
# of a full disk, in the messages of each database
FULL_SIGNS = ("disk is full", "disk I/O", "No space left", "Disk full", "table is full")
TELL_SECONDS = 3.0  # an absence shorter than this is not worth a line
SERVER = {  # a host that vanished is noticed in seconds; by itself TCP would wait for hours
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
# PostgreSQL ends a session that stands still in a transaction: a host that sleeps there must not block all others
FROZEN_SECONDS = 20
KEEPALIVES = "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
CREATION_SECONDS = 100  # how long MySQL waits for another who makes the tables
MYSQL = {
    "isolation_level": "READ COMMITTED",  # as on PostgreSQL; by default a transaction reads old rows
    "connect_args": {"connect_timeout": 10, "read_timeout": 120, "init_command": "SET time_zone = '+00:00'"},
}
IMPATIENT_SECONDS = 1.5  # the same for commands, as a user waits for them
patience = IMPATIENT_SECONDS  # see `be_patient`
log = logging.getLogger("tuner")


def parse_url(url: str | URL) -> URL:
    """Parse a URL and fill in the driver that is installed with tuner."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # the error would show the password
        raise StorageError(
            "the storage is not a valid database URL. Write for example sqlite:///runs/tuner.db or postgresql://user@host/name."
        ) from None
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StorageError("SQLite in memory cannot be shared by workers; name a file: sqlite:///runs/tuner.db")
    if parsed.get_backend_name() == "sqlite":
        check_path(str(parsed.database), StorageError)
    return parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))


def hide_password(url: str | URL) -> str:
    """Return the URL without passwords, for messages; the query may contain one too."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not is_utf8(str(parsed.database)):
        return escape(f"{parsed.drivername}:///{parsed.database}")
    return parsed.set(query={}).render_as_string(hide_password=True)


def has_password(url: str | URL) -> bool:
    """Return whether a URL contains a password, also in its query; False if it is not valid."""
    try:
        parsed = parse_url(url)
    except StorageError:
        return False
    return parsed.password is not None or "password" in parsed.query


def storage_to_type(url: str | URL) -> str:
    """Return the value of --storage for this database; a variable in place of a URL with a password."""
    if has_password(url):
        return STORAGE_VARIABLE
    return url if isinstance(url, str) else url.render_as_string(hide_password=False)


def render_url(url: str) -> str:
    """Return the URL with its driver and password, to open it again."""
    parsed = parse_url(url)
    return parsed.render_as_string(hide_password=False) if is_utf8(str(parsed.database)) else url


def engine_options(url: URL) -> dict[str, Any]:
    """Return options for small pools that detect dead connections; SQLite waits for its lock."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    options: dict[str, Any] = {"pool_size": 2, "max_overflow": 1, "pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        given = url.query.get("options", "")
        session = f"-c idle_in_transaction_session_timeout={FROZEN_SECONDS}s {KEEPALIVES}"
        options["connect_args"] = {**SERVER, "options": f"{given if isinstance(given, str) else ''} {session}"}
    if url.get_backend_name() in ("mysql", "mariadb"):
        options |= MYSQL
    return options


def use_write_ahead_log(engine: Engine) -> None:
    """Use write-ahead logging on SQLite, so that readers and the writer do not wait for each other."""
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", set_pragmas)


def set_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def is_absent(url: str) -> bool:
    """Return whether this is an SQLite file that does not exist."""
    parsed = parse_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file()


def connect(url: str) -> Engine:
    """Return an engine after a first query; StorageError if that fails. The database is not changed."""
    parsed = parse_url(url)
    try:
        engine = sa.create_engine(parsed, **engine_options(parsed))
    except (ImportError, sa.exc.NoSuchModuleError) as error:
        raise StorageError(
            f"no driver for {hide_password(url)}: {error}. Install it, or use postgresql:// or sqlite:///."
        ) from error
    try:
        with convert_errors(url):
            refuse_foreign_tables(engine, url)
    finally:
        engine.dispose()
    # only now: write-ahead logging is written into the file, and the file may be another's
    use_write_ahead_log(engine)
    return engine


def refuse_foreign_tables(engine: Engine, url: str) -> None:
    """Raise StorageError if the tables are another program's.

    Some of Optuna's tables alone are allowed: another worker is creating them, or was killed while it did.
    """
    tables = set(sa.inspect(engine).get_table_names())
    strange = {table for table in tables - optuna_tables.ALL_TABLES if not table.startswith("tuner_")}
    if not strange and tables != {"alembic_version"}:
        return
    if "studies" not in tables:
        raise StorageError(
            f"{hide_password(url)} holds another program's tables ({format_names(sorted(tables), 4)}). "
            "Nothing was changed; give tuner a database of its own."
        )
    if "version_info" not in tables:
        raise StorageError(
            f"{hide_password(url)} has a table 'studies' that is not Optuna's. Give tuner a database of its own."
        )


@contextmanager
def convert_errors(url: str) -> Iterator[None]:
    """Convert errors of the database to a StorageError of one line, without the password."""
    try:
        yield
    except Exception as error:
        cause = unwrap(error)
        if not isinstance(cause, sa.exc.SQLAlchemyError):
            raise
        line = StorageError(describe_error(cause, url))
        line.passes = is_transient(cause)
        raise line from None


def describe_error(error: sa.exc.SQLAlchemyError, url: str) -> str:
    """Return what an error means and what to do."""
    if not isinstance(error, sa.exc.DBAPIError):
        return f"{hide_password(url)}: {type(error).__name__}"
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    telling = -1 if isinstance(error, sa.exc.OperationalError) else 0  # others go on with the statement
    said, where = lines[telling] if lines else type(error.orig).__name__, hide_password(url)
    if "not a database" in said:
        return f"{where} is not an SQLite database but a file of another kind. Nothing was changed."
    if "unable to open" in said:
        return f"{where} cannot be opened. Check that its folder exists and that you may write to it."
    if "readonly" in said:
        return f"{where} cannot be written. Check its permissions, or choose another with --home or --storage."
    if is_full(error):
        return f"the disk is full: {where} cannot be written. Free some space and type the command again."
    if "password" in said or "authentication" in said:
        return f"{where} refused the user name or password. Check both in --storage or TUNER_STORAGE."
    return f"{where} cannot be reached: {said}. Check the address, and that the server is running."


@contextmanager
def creation_lock(engine: Engine, url: str) -> Iterator[None]:
    """Admit one process at a time on all hosts, to create tables or a study."""
    if engine.dialect.name == "sqlite":
        from filelock import FileLock

        lock = FileLock(f"{parse_url(url).database}.lock")
        with writing(Path(lock.lock_file)):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    elif engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")  # held for long, and not in a transaction
            connection.execute(sa.text("SELECT pg_advisory_lock(7481)"))
            try:
                yield
            finally:
                connection.execute(sa.text("SELECT pg_advisory_unlock(7481)"))
    else:
        name = f"tuner:{parse_url(url).database}"[:64]  # such a lock is of the whole server
        with engine.connect() as connection:
            if connection.scalar(sa.func.get_lock(name, CREATION_SECONDS).select()) != 1:
                raise StorageError(
                    f"{hide_password(url)}: another process has been creating its tables for too long. Try again."
                )
            try:
                yield
            finally:
                connection.execute(sa.func.release_lock(name).select())


def be_patient(seconds: float = PATIENT_SECONDS) -> None:
    """Set how long this process retries while the database is away, in seconds."""
    global patience
    patience = seconds


def unwrap(error: BaseException) -> BaseException:
    """Return the error of the database that an error of Optuna wraps, or the error itself."""
    return error.__cause__ if isinstance(error.__cause__, sa.exc.SQLAlchemyError) else error


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed: a lock, a cut connection, a server that restarts."""
    error = unwrap(error)
    if isinstance(error, StorageError):
        return error.passes
    if isinstance(error, sa.exc.TimeoutError | sa.exc.PendingRollbackError):
        return True  # the pool's; Optuna's second query on a connection that was cut under its first
    if not isinstance(error, sa.exc.DBAPIError) or is_full(error):
        return False
    return error.connection_invalidated or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)


def is_full(error: sa.exc.DBAPIError) -> bool:
    return any(sign in str(error.orig) for sign in FULL_SIGNS)


def retried(function: Callable[P, T]) -> Callable[P, T]:
    """Retry a function while the database is busy, unreachable or a connection was cut, as long as `patience`.

    A failure because of a race (two rows with one key) is retried a few times only.
    """

    @wraps(function)
    def persistent(*args: P.args, **kwargs: P.kwargs) -> T:
        began, is_away = time.monotonic(), False

        def may_retry(error: Exception, attempt: int) -> bool:
            nonlocal is_away
            if isinstance(unwrap(error), sa.exc.IntegrityError) and attempt < TRIES:
                return True
            spent = time.monotonic() - began
            if not is_transient(error) or spent > patience:
                return False
            if spent > TELL_SECONDS and not is_away:
                is_away = True
                log.warning("the database is away; trying again for up to %.0f minutes", patience / 60)
            return True

        answer = retry(lambda: function(*args, **kwargs), may_retry)
        if is_away:
            log.warning("the database is back after %.0f s", time.monotonic() - began)
        return answer

    return persistent
