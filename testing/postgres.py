"""A real PostgreSQL server for tests: made in a directory of its own, reached by a socket there, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

START_S = 60.0


def server_programs() -> Path | None:
    """The directory of initdb and postgres, newest version first; None where there is no server."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    found = [*([Path(on_path).resolve().parent] if on_path else []), *installed]
    return next((folder for folder in found if (folder / "initdb").exists()), None)


class PostgresServer:
    """A running server. It never runs as root: root hands over to the account of the distribution's package.

    With `standby_of` it holds what these statements made, one a line, and stays in recovery: nobody sends it WAL.
    """

    def __init__(self, programs: Path, *, standby_of: str = "") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        data = self._folder / "data"
        made: list[str | Path] = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(
            [*made, "-E", "UTF8", "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._folder,
        )
        options = {
            "listen_addresses": "",
            "unix_socket_directories": self._folder,
            "fsync": "off",
        }
        if standby_of:
            alone: list[str | Path] = [programs / "postgres", "--single", "-D", data, "postgres"]
            subprocess.run(
                alone, input=standby_of.encode(), check=True, capture_output=True, user=self._user, cwd=self._folder
            )
            (data / "standby.signal").touch()
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", data, *settings],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        self._wait()

    def url(self, database: str = "postgres") -> str:
        """How libpq reaches a database of this server."""
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def make(self, database: str, *, template: str = "template1") -> str:
        """A new database, a copy of `template`; returns its url."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            names = sql.Identifier(database), sql.Identifier(template)
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return self.url(database)

    def empty(self, database: str, tables: Sequence[str]) -> None:
        """Remove every row of these tables: quicker than a new copy for each test."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            names = sql.SQL(", ").join(sql.Identifier(table) for table in tables)
            connection.execute(sql.SQL("TRUNCATE {}").format(names))

    def disconnect(self, database: str) -> None:
        """Cut every connection to a database, as a failover does."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])

    def _wait(self) -> None:
        end_s = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < end_s:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        words = (self._folder / "log").read_text()[-2000:]
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start: {words}")

    def stop(self) -> None:
        """End the server at once and remove what it made."""
        if self._process.poll() is None:
            self._process.send_signal(3)  # SIGQUIT: an immediate shutdown
            self._process.wait(timeout=30)
        shutil.rmtree(self._folder)
