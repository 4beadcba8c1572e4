"""What a container may have, what the engine is asked for, and what its refusals mean."""

from pathlib import Path
from typing import Any

import pytest
from aiodocker import DockerError
from aiodocker.exceptions import DockerStreamError

from services.executor.containers.archive import starts
from services.executor.containers.daemon import _not_pulled, refusal
from services.executor.containers.policy import ContainerPolicy
from services.executor.containers.stats import Stats
from taskloom.artifacts import parts_of
from taskloom.kinds import InvalidInput, TaskError, validate
from taskloom.kinds.containers import DockerInput
from taskloom.kinds.inputs import read


def wished(**fields: Any) -> DockerInput:
    return read(DockerInput, {"operation": "run", "image": "busybox", **fields})


def host(policy: ContainerPolicy, **fields: Any) -> dict[str, Any]:
    asked: dict[str, Any] = policy.request(wished(**fields), {}, {})["HostConfig"]
    return asked


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "input.operation"),
        ({"operation": "run"}, "input.image"),
        ({"operation": "run", "image": "busybox", "id": "x"}, "input.id"),
        ({"operation": "stop"}, "input.id"),
        ({"operation": "logs", "id": "x", "command": "ls"}, "input.command"),
        ({"operation": "start", "id": "x", "mounts": [{"source": "/a", "target": "/b"}]}, "input.mounts"),
        ({"operation": "run", "image": "a/../containers/x"}, "input.image"),
        ({"operation": "run", "image": "../x"}, "input.image"),
        ({"operation": "stop", "id": "a/../b"}, "input.id"),
        ({"operation": "run", "image": "x", "limits": {"memory_mb": 1}}, "input.limits.memory_mb"),
        (
            {"operation": "run", "image": "x", "mounts": [{"source": "data", "target": "/b"}]},
            "input.mounts[0].source",
        ),
        ({"operation": "run", "image": "x", "privileged": True}, "input.privileged"),
        ({"operation": "run", "image": "x", "detach": True, "stdin": "x"}, "input.stdin"),
        ({"operation": "run", "image": "x", "detach": True, "artifacts": ["*"]}, "input.artifacts"),
        ({"operation": "logs", "id": "x", "files": [{"path": "a", "text": "x"}]}, "input.files"),
        ({"operation": "run", "image": "x", "files": [{"path": "../a", "text": "x"}]}, "input.files[0].path"),
        ({"operation": "run", "image": "x", "files": [{"path": "a"}]}, "input.files[0]"),
        ({"operation": "run", "image": "x", "artifacts": ["/etc/*"]}, "input.artifacts[0]"),
        (
            {
                "operation": "run",
                "image": "x",
                "artifacts": ["*"],
                "mounts": [{"source": "/a", "target": "/b"}, {"source": "/a", "target": "/b/../workspace/c"}],
            },
            "input.mounts[1].target",
        ),
    ],
)
def test_an_input_that_does_not_fit_names_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate("docker", given)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "image",
    ["busybox", "busybox:1.36", "library/busybox", "registry.example:5000/a/b_c-d:v1.0", "a@sha256:" + "0" * 64],
)
def test_names_of_images_are_taken_as_docker_takes_them(image: str) -> None:
    validate("docker", {"operation": "run", "image": image})


def test_a_text_runs_under_the_shell_a_list_as_it_is_and_nothing_leaves_the_images_own() -> None:
    policy = ContainerPolicy()
    assert policy.request(wished(command="echo a; echo b"), {}, {})["Cmd"] == ["/bin/sh", "-c", "echo a; echo b"]
    assert policy.request(wished(command=["echo", "a b"]), {}, {})["Cmd"] == ["echo", "a b"]
    assert "Cmd" not in policy.request(wished(), {}, {})


def test_a_container_with_files_runs_in_its_workspace_and_stdin_is_open_where_there_is_some() -> None:
    policy = ContainerPolicy()
    plain = policy.request(wished(), {}, {})
    assert "WorkingDir" not in plain
    assert "OpenStdin" not in plain
    asked = policy.request(wished(artifacts=["*"], stdin="x"), {}, {})
    assert (asked["WorkingDir"], asked["OpenStdin"], asked["StdinOnce"]) == ("/workspace", True, True)
    assert policy.request(wished(artifacts=["*"], cwd="/src"), {}, {})["WorkingDir"] == "/src"


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["out/a.txt"], {("out", "a.txt")}),
        (["out/**", "out/a.txt", "in/*.csv"], {("out",), ("in",)}),
        (["out/[ab]/c", "outer/d"], {("out",), ("outer", "d")}),
        (["**/x", "out/y"], {()}),
    ],
)
def test_no_more_is_asked_of_the_engine_than_can_hold_what_fits(
    patterns: list[str], found: set[tuple[str, ...]]
) -> None:
    assert set(starts([parts_of(pattern) for pattern in patterns])) == found


def test_peaks_are_of_what_the_engine_measured_without_the_cache_of_files() -> None:
    def told(used_s: float, host_s: float, mib: int, before: tuple[float, float] | None) -> dict[str, Any]:
        cpu = {"cpu_usage": {"total_usage": used_s * 1e9}, "system_cpu_usage": host_s * 1e9, "online_cpus": 2}
        earlier: dict[str, Any] = {"cpu_usage": {"total_usage": 0}}
        if before is not None:
            earlier = {"cpu_usage": {"total_usage": before[0] * 1e9}, "system_cpu_usage": before[1] * 1e9}
        memory = {"usage": (mib + 5) * 2**20, "stats": {"inactive_file": 5 * 2**20}}
        return {"cpu_stats": cpu, "precpu_stats": earlier, "memory_stats": memory}

    stats = Stats()
    stats.add(told(0.5, 100, 30, None))
    assert (stats.samples, stats.cpu_percent) == (1, 0.0)
    stats.add(told(1.25, 102, 20, (0.5, 100)))
    stats.add({"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "precpu_stats": {}, "memory_stats": {}})
    assert (stats.samples, stats.cpu_percent, stats.memory_mb, stats.cpu_s) == (2, 75.0, 30.0, 1.25)


def test_limits_are_the_lower_of_what_is_asked_for_and_what_is_allowed() -> None:
    policy = ContainerPolicy(cpu=2, memory_mb=256, pids=100)
    asked = host(policy, limits={"cpu": 0.5, "memory_mb": 1000})
    assert (asked["NanoCpus"], asked["Memory"], asked["PidsLimit"]) == (500_000_000, 256 * 2**20, 100)
    assert asked["MemorySwap"] == asked["Memory"]
    assert "Memory" not in host(ContainerPolicy())


def test_a_network_has_to_be_allowed() -> None:
    policy = ContainerPolicy(networks=("none", "bridge"))
    assert host(policy)["NetworkMode"] == "none"
    assert host(policy, network="bridge")["NetworkMode"] == "bridge"
    with pytest.raises(TaskError, match=r"none, bridge") as denied:
        host(policy, network="host")
    assert (denied.value.type, denied.value.retryable) == ("network_denied", False)


def test_only_allowed_directories_are_mounted_and_links_are_followed_before_that_is_asked(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "allowed-not"
    (allowed / "in").mkdir(parents=True)
    other.mkdir()
    (allowed / "link").symlink_to("/etc")
    policy = ContainerPolicy(mounts=(str(allowed),))
    mounted = host(policy, mounts=[{"source": f"{allowed}/in", "target": "/in"}])["Mounts"]
    assert mounted == [{"Type": "bind", "Source": f"{allowed}/in", "Target": "/in", "ReadOnly": True}]
    for source in (str(other), f"{allowed}/link", f"{allowed}/../allowed-not", "/"):
        with pytest.raises(TaskError) as denied:
            host(policy, mounts=[{"source": source, "target": "/in"}])
        assert denied.value.type == "mount_denied"


def test_writing_needs_a_directory_that_is_allowed_for_it(tmp_path: Path) -> None:
    mount = {"source": str(tmp_path), "target": "/in", "read_only": False}
    with pytest.raises(TaskError, match="writable"):
        host(ContainerPolicy(mounts=(str(tmp_path),)), mounts=[mount])
    assert host(ContainerPolicy(mounts=(f"{tmp_path}:rw",)), mounts=[mount])["Mounts"][0]["ReadOnly"] is False


def test_a_tenant_touches_what_its_tasks_started_and_what_the_settings_name() -> None:
    policy = ContainerPolicy(touchable=("web-*",))
    assert policy.may_touch("any", {"taskloom.tenant": "a"}, "a")
    assert not policy.may_touch("web-1", {"taskloom.tenant": "a"}, "b")
    assert policy.may_touch("web-1", {}, "b")
    assert not policy.may_touch("database", {}, "b")


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [(900, "docker_unavailable", True), (500, "docker_error", True), (400, "docker_refused", False)],
)
def test_refusals_of_the_engine_say_whether_to_try_again(status: int, kind: str, retryable: bool) -> None:
    told = refusal(DockerError(status, "because"), "starting", "unix:///x")
    assert (told.type, told.retryable) == (kind, retryable)
    assert "because" in told.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DockerStreamError("pull access denied for x, repository does not exist"), "image_unavailable"),
        (DockerError(404, "manifest for x:y not found"), "image_unavailable"),
        (DockerError(500, "Get https://registry/v2/: dial tcp: lookup registry: no such host"), "image_pull_failed"),
        (DockerStreamError("net/http: TLS handshake timeout"), "image_pull_failed"),
    ],
)
def test_an_image_that_is_not_there_is_told_from_a_registry_that_is_away(error: DockerError, kind: str) -> None:
    assert _not_pulled("x", error).type == kind
