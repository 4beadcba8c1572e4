"""Settings of an executor."""

import os
import re
import socket
from typing import Annotated

import psutil
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from services.executor.containers.policy import DEFAULT_HOST, ContainerPolicy
from services.executor.models.settings import ModelSettings
from taskloom.domain.ids import is_valid_id
from taskloom.domain.values import Resources
from taskloom.filestore import FilesSettings
from taskloom.rules import Rules, RuleSettings
from taskloom.secrets import SecretsSettings
from taskloom.settings import checked_key

Names = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated in the environment."""


def _host_id() -> str:
    """Stable over restarts on one host, so that the same executor comes back."""
    return "executor-" + re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:100]


class ExecutorSettings(RuleSettings, SecretsSettings, FilesSettings, ModelSettings):
    """Who this executor is, what it runs, and how much at once."""

    executor_id: str = Field(default_factory=_host_id, description="Its id; running executors have different ones")
    queues: Names = Field(("default",), description="Queues it takes work from, comma-separated; * takes any")
    capabilities: Names = Field((), description="What tasks may ask for, comma-separated")
    labels: dict[str, str] = Field({}, description='What tasks may match, as JSON: {"zone": "a"}')
    slots: int = Field(100, ge=1, le=10_000, description="Attempts that run at once")
    prefetch: int = Field(
        400, ge=0, le=10_000, description="Most attempts that may wait here; it asks for about 0.25 s of work"
    )
    heartbeat_s: float = Field(5.0, gt=0, le=60, description="Seconds between two signs of life")
    stop_grace_s: float = Field(5.0, ge=0, le=600, description="Seconds between SIGTERM and SIGKILL at a time limit")
    python_modules: Names = Field((), description="Modules imported at start that register functions, comma-separated")
    apps: Names = Field((), description="Apps whose tasks it runs, module:app, comma-separated")
    common_kinds: bool = Field(True, description="Whether it runs the built-in kinds and those of installed packages")
    disable_task_worker: bool = Field(
        default_factory=lambda: os.environ.get("DISABLE_TASK_WORKER", "").strip().lower() in ("1", "true", "yes", "on"),
        description="Take no work of goals here (kinds llm and tool), as DISABLE_TASK_WORKER; it waits for other "
        "executors",
    )
    threads: int = Field(16, ge=1, le=1000, description="Plain Python functions that run at once")
    cpu_cores: float = Field(default_factory=lambda: float(os.cpu_count() or 1), ge=0, description="Cores it offers")
    memory_gb: float = Field(
        default_factory=lambda: round(psutil.virtual_memory().total / 1e9, 2), ge=0, description="Memory it offers, GB"
    )
    disk_gb: float = Field(
        default_factory=lambda: round(psutil.disk_usage("/").free / 1e9, 2), ge=0, description="Disk it offers, GB"
    )
    gpu_memory_gb: float = Field(0.0, ge=0, description="Memory of its GPUs, GB")
    webhook_key: SecretStr = Field(
        SecretStr(""),
        description="Key that webhook secrets follow from, the same in gateways and executors, 32 characters or more, "
        "without it this executor delivers none",
    )
    webhook_allow_private: bool = Field(
        False,
        description="Deliver webhooks to addresses of this machine and of private networks too",
    )
    executor_rules: Rules = Field(
        Rules(),
        description="What commands and images this executor runs for anybody, as JSON, beside TASKLOOM_RULES: "
        '{"commands": {"allow": ["make *", "git *"]}, "images": {"deny": ["*:latest"]}}',
    )
    shell_users: Names = Field(
        (),
        description="Users of this host that commands may run as, comma-separated, the first one without asking; needs "
        "root; without any, commands run as the executor's own user",
    )
    cgroup: str = Field(
        "auto",
        pattern=r"^(auto|off|/.+)$",
        description="Where each command gets a cgroup (version 2): auto is below the executor's own, off is nowhere; "
        "or a directory without processes that is delegated to the executor, which memory and process limits need",
    )
    docker: bool = Field(True, description="Run containers (kind docker) while the Docker Engine answers")
    docker_host: str = Field(
        default_factory=lambda: os.environ.get("DOCKER_HOST", "") or DEFAULT_HOST,
        pattern=r"^(unix|tcp|http|https)://.+",
        description="Address of the Docker Engine, as DOCKER_HOST: unix:///path or tcp://host:port; "
        "TLS by DOCKER_TLS_VERIFY and DOCKER_CERT_PATH",
    )
    docker_mounts: Names = Field(
        (), description="Directories of this host that containers may mount, comma-separated; /path:rw to write too"
    )
    docker_networks: Names = Field(
        ("none", "bridge"),
        min_length=1,
        description="Network modes that containers may have, comma-separated; the first one without asking",
    )
    docker_cpu: float = Field(0.0, ge=0, description="Most cores a container gets, 0 sets no limit")
    docker_memory_mb: int = Field(0, ge=0, description="Most memory a container gets, MiB, 0 sets no limit")
    docker_pids: int = Field(1024, ge=0, description="Most processes and threads a container has, 0 sets no limit")
    docker_init: bool = Field(
        True, description="Start a small init process (docker-init) in each container, so that SIGTERM reaches it"
    )
    docker_containers: Names = Field(
        (), description="Names of containers not started by tasks that start, stop and logs may touch, with * and ?"
    )
    mcp_commands: Names = Field(
        (),
        description="Commands that tenants' tool servers may be, as patterns over the whole command, comma-separated: "
        "mcp-server-time, uvx mcp-server-*; * stands for further words too; without any, no server is started here",
    )
    mcp_sessions: int = Field(32, ge=1, le=1000, description="Most connections to tool servers that are open at once")
    mcp_idle_s: float = Field(300.0, gt=0, le=86_400, description="Seconds after which an unused one is closed")
    mcp_start_timeout_s: float = Field(
        30.0, gt=0, le=600, description="Longest start of a tool server, in seconds, until it has answered first"
    )
    sql_databases: dict[str, SecretStr] = Field(
        {},
        max_length=100,
        description="Databases that tasks of kind sql may read, as JSON, name to PostgreSQL's URI: "
        '{"shop": "postgresql://reader@host/shop"}; roles must be no superusers; without any the kind is not run',
    )
    max_output_mb: int = Field(
        2048, ge=0, description="Output kept of one attempt, MiB; more is dropped, marked and counted; 0 sets no limit"
    )
    max_pending_reports: int = Field(20_000, ge=100, description="Reports kept while Kafka is away; then work waits")
    max_pending_output_mb: int = Field(16, ge=1, description="Output kept while Kafka is away, MiB; then writers wait")

    @field_validator(
        *("queues", "capabilities", "python_modules", "apps", "docker_mounts", "docker_networks", "docker_containers"),
        *("shell_users", "mcp_commands"),
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("executor_id")
    @classmethod
    def _executor_id_is_an_id(cls, value: str) -> str:
        if not is_valid_id(value):
            raise ValueError("must be 1 to 128 of A-Z a-z 0-9 : _ - .")
        return value

    @field_validator("webhook_key")
    @classmethod
    def _webhook_key_is_long(cls, value: SecretStr) -> SecretStr:
        return checked_key(value)

    @property
    def has_database(self) -> bool:
        """Whether it can read what is stored: registered tool servers are there."""
        return True

    @property
    def containers(self) -> ContainerPolicy:
        return ContainerPolicy(
            mounts=self.docker_mounts,
            networks=self.docker_networks,
            cpu=self.docker_cpu,
            memory_mb=self.docker_memory_mb,
            pids=self.docker_pids,
            init=self.docker_init,
            touchable=self.docker_containers,
        )

    @property
    def resources(self) -> Resources:
        return Resources(self.cpu_cores, self.memory_gb, self.disk_gb, self.gpu_memory_gb)
