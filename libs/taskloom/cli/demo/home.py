"""Where the demo lives: settings, a home of its own, and the second executor."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from taskloom.cli.demo import goal
from taskloom.cli.demo.acts import NARROW
from taskloom.cli.demo.functions import MODULE
from taskloom.local.ports import free_ports, is_free
from taskloom.local.services import LOOPBACK, ServiceProcess
from taskloom.local.settings import LocalSettings
from taskloom.local.supervisor import Supervisor
from taskloom.settings import PREFIX, load

USUAL_PORT: Final = 8080


class DemoHome:
    """``path`` is TASKLOOM_HOME, or a new temporary directory, which ``remove`` takes away."""

    def __init__(self) -> None:
        given = os.environ.get(f"{PREFIX}HOME")
        self.is_temporary = not given
        self.path = Path(given).absolute() if given else Path(tempfile.mkdtemp(prefix="taskloom-demo-"))
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def log_file(self) -> Path:
        return self.path / "shop.log"

    def settings(self) -> LocalSettings:
        """The system's settings: TASKLOOM_HTTP_PORT if it is set, else the usual port, or any when that is taken."""
        # The services are children and read our environment.
        modules = os.environ.get(f"{PREFIX}PYTHON_MODULES", "")
        os.environ[f"{PREFIX}PYTHON_MODULES"] = ",".join(filter(None, [modules, MODULE]))
        settings = load(LocalSettings, home=self.path)
        if f"{PREFIX}HTTP_PORT" not in os.environ and not is_free(settings.host, USUAL_PORT):
            settings = load(LocalSettings, home=self.path, http_port=0)
        return settings

    def remove(self) -> None:
        """Takes away what the demo does not leave behind."""
        self.log_file.unlink(missing_ok=True)
        (self.path / goal.REPORT).unlink(missing_ok=True)
        if self.is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)


def narrow_executor(supervisor: Supervisor) -> ServiceProcess:
    """A second executor, with a single slot and a queue of its own."""
    return _executor(supervisor, "executor-narrow", QUEUES=NARROW, SLOTS="1", PREFETCH="0")


def analyst_executor(supervisor: Supervisor) -> ServiceProcess:
    """A third one, for what the goal does: it alone may start the server with tools for logs."""
    allowed = " ".join([*goal.COMMAND, "*"])
    return _executor(supervisor, "executor-analyst", QUEUES=goal.QUEUE, MCP_COMMANDS=allowed)


def _executor(supervisor: Supervisor, name: str, **settings: str) -> ServiceProcess:
    (port,) = free_ports(1)
    own = {
        "KAFKA_BOOTSTRAP": supervisor.bootstrap,
        "DATABASE_DSN": supervisor.dsn,
        "TOPIC_PREFIX": supervisor.settings.topic_prefix,
        "EXECUTOR_ID": name,
        "INSTANCE": name,
        "OPS_HOST": LOOPBACK,
        "OPS_PORT": str(port),
        **settings,
    }
    environment = {PREFIX + variable: value for variable, value in own.items()}
    return ServiceProcess("executor", name, port=port, logs=supervisor.home.logs, environment=environment)
