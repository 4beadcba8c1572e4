"""The files in infra/ and docker-compose.yml fit each other and the code: settings, metrics, probes, time limits."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic_settings import BaseSettings

from services.executor.link.settings import AgentSettings
from services.executor.settings import ExecutorSettings
from services.gateway.settings import GatewaySettings
from services.orchestrator.settings import OrchestratorSettings
from services.projection.settings import ProjectionSettings
from taskloom.settings import ServiceSettings, load

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "docker-compose.yml"
BASE: Final = ROOT / "infra" / "k8s" / "base"
SETTINGS: Final[dict[str, type[ServiceSettings]]] = {
    "gateway": GatewaySettings,
    "orchestrator": OrchestratorSettings,
    "executor": ExecutorSettings,
    "projection": ProjectionSettings,
}
SERVICES: Final = tuple(SETTINGS)
AGENT: Final = ROOT / "infra" / "k8s" / "agent"
KEPT_FROM_AGENTS: Final = frozenset(
    f"TASKLOOM_{name}" for name in ("KAFKA_BOOTSTRAP", "DATABASE_DSN", "SECRETS_KEY", "WEBHOOK_KEY")
)
HTTP_PORT: Final = {"gateway": 8080, "orchestrator": 9100, "executor": 9100, "projection": 9100}


def known_variables(settings: type[BaseSettings]) -> set[str]:
    return {f"TASKLOOM_{name.upper()}" for name in settings.model_fields}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def interpolated(value: object) -> str:
    """``${NAME:-default}`` becomes its default."""
    return re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", str(value))


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration.removesuffix("s"))


def manifests() -> list[dict[str, Any]]:
    resources = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [document for name in resources for document in yaml.safe_load_all((BASE / name).read_text())]


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = [m for m in manifests() if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def pod_of(service: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifest("Deployment", service)["spec"]["template"]["spec"]
    return spec


# docker-compose.yml


@pytest.mark.parametrize("service", SERVICES)
def test_compose_sets_only_settings_that_the_service_has(service: str) -> None:
    environment = compose()["services"][service]["environment"]

    own = {name for name in environment if name.startswith("TASKLOOM_")}

    assert own <= known_variables(SETTINGS[service])


@pytest.mark.parametrize("service", SERVICES)
def test_compose_environment_makes_valid_settings(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TASKLOOM_")]:
        monkeypatch.delenv(name)
    for name, value in compose()["services"][service]["environment"].items():
        monkeypatch.setenv(name, interpolated(value))

    settings = load(SETTINGS[service])

    assert settings.kafka_bootstrap == "kafka:9092"
    assert settings.otlp_endpoint == "http://otel-collector:4318"


@pytest.mark.parametrize("service", SERVICES)
def test_compose_waits_longer_than_the_drain_before_it_kills(service: str) -> None:
    definition = compose()["services"][service]
    default = SETTINGS[service].model_fields["drain_timeout_s"].default
    drain_s = float(interpolated(definition["environment"].get("TASKLOOM_DRAIN_TIMEOUT_S", default)))

    assert seconds(definition["stop_grace_period"]) > drain_s


@pytest.mark.parametrize("service", SERVICES)
def test_compose_checks_readiness_on_the_port_that_the_service_has(service: str) -> None:
    (command,) = [part for part in compose()["services"][service]["healthcheck"]["test"] if "urlopen" in part]

    assert f"http://127.0.0.1:{HTTP_PORT[service]}/readiness" in command


def test_the_agent_of_compose_knows_a_gateway_and_its_token_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, gateway = compose()["services"]["agent"], compose()["services"]["gateway"]
    assert set(agent["environment"]) <= known_variables(AgentSettings)
    assert not [name for name in agent["environment"] if name in KEPT_FROM_AGENTS]
    for name in [name for name in os.environ if name.startswith("TASKLOOM_")]:
        monkeypatch.delenv(name)
    for name, value in agent["environment"].items():
        monkeypatch.setenv(name, interpolated(value))

    settings = load(AgentSettings)

    assert settings.gateway_urls == (f"http://gateway:{gateway['environment']['TASKLOOM_HTTP_PORT']}",)
    assert seconds(agent["stop_grace_period"]) > settings.drain_timeout_s
    assert (agent["profiles"], agent["depends_on"]) == (["agents"], {"gateway": {"condition": "service_healthy"}})
    assert interpolated(agent["command"]) == "['agent', '--id', 'agent1']"


def test_every_service_of_compose_can_be_scaled() -> None:
    services = compose()["services"]

    assert not [name for name, definition in services.items() if "container_name" in definition]
    assert not [name for name in SERVICES if "ports" in services[name] and name != "gateway"]
    (ports,) = services["gateway"]["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+-\d+:8080", interpolated(ports))


def test_compose_starts_services_after_tables_and_topics_are_made() -> None:
    services = compose()["services"]

    assert services["migrate"]["command"] == ["migrate"]
    assert services["topics"]["command"] == ["topics"]
    for name in SERVICES:
        waits = services[name]["depends_on"]
        assert {job: waits[job]["condition"] for job in ("migrate", "topics")} == dict.fromkeys(
            ("migrate", "topics"), "service_completed_successfully"
        )


def test_compose_mounts_only_files_that_exist() -> None:
    mounted = [
        volume.split(":")[0]
        for definition in compose()["services"].values()
        for volume in definition.get("volumes", ())
        if volume.startswith("./")
    ]

    assert mounted
    assert not [path for path in mounted if not (ROOT / path).exists()]


def test_compose_file_is_accepted_by_docker_compose() -> None:
    command = compose_command()
    files = ["-f", str(COMPOSE), "-f", str(ROOT / "infra" / "compose" / "kafka-on-host.yml")]

    profiles = ["--profile", "watch", "--profile", "agents"]
    done = subprocess.run([*command, *files, *profiles, "config"], capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert {*SERVICES, "agent"} <= set(yaml.safe_load(done.stdout)["services"])


def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    pytest.skip("neither `docker compose` nor docker-compose is installed (Debian: apt-get install docker-compose)")


# infra/docker, infra/kafka, infra/otel


def test_image_is_built_from_files_that_exist_and_reach_the_build() -> None:
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]

    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
        for source in sources.split()
    ]

    assert sorted(copied) == sorted(sent)
    assert not [source for source in copied if not (ROOT / source).exists()]


def test_wheel_of_the_image_builds_from_what_reaches_the_build(tmp_path: Path) -> None:
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, target = ROOT / line[1:], tmp_path / "src" / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]

    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(tmp_path / "src")], check=True)

    (wheel,) = tmp_path.glob("taskloom-*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert "services/gateway/app.py" in inside
    assert [name for name in inside if name.startswith("taskloom/store/migrations/") and name.endswith(".sql")]


def test_image_runs_as_a_user_without_rights() -> None:
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text()

    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["10001:10001"]


def test_image_takes_hashed_requirements_only() -> None:
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text()

    for install in re.findall(r"pip (?:install|wheel) (.+?)(?: \\)?$", dockerfile, re.MULTILINE):
        assert "--require-hashes" in install or "--no-index" in install


def test_image_builds_with_the_same_tool_as_the_checkout() -> None:
    locked = (ROOT / "infra" / "docker" / "build.txt").read_text()
    (required,) = re.findall(r'"(hatchling==[\d.]+)"', (ROOT / "pyproject.toml").read_text().split("[project]")[0])

    assert f"{required} \\\n    --hash=sha256:" in locked


def test_broker_takes_records_as_large_as_the_topics_allow() -> None:
    from taskloom.bus.admin import ALL_TOPICS

    lines = (ROOT / "infra" / "kafka" / "server.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    assert int(properties["message.max.bytes"]) >= int(ALL_TOPICS["max.message.bytes"])
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["advertised.listeners"].startswith("INTERNAL://kafka:9092")


def test_collector_pipelines_name_only_what_is_configured() -> None:
    config = yaml.safe_load((ROOT / "infra" / "otel" / "collector.yaml").read_text())

    for pipeline in config["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(config[part])
    assert set(config["service"]["extensions"]) <= set(config["extensions"])
    assert config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")


# infra/prometheus, infra/grafana


def metrics_of_the_code() -> set[str]:
    """Names as Prometheus shows them, read from the calls that make them."""
    made = re.compile(r'\b(counter|gauge|histogram)\(\s*"([a-z_]+)"')
    names: set[str] = set()
    for folder in (ROOT / "libs", ROOT / "services"):
        for path in folder.rglob("*.py"):
            for kind, name in made.findall(path.read_text()):
                names |= {
                    "counter": {f"taskloom_{name}_total"},
                    "gauge": {f"taskloom_{name}"},
                    "histogram": {f"taskloom_{name}_{part}" for part in ("bucket", "sum", "count")},
                }[kind]
    return names


def test_dashboard_and_alerts_use_only_metrics_that_the_services_have() -> None:
    dashboard = json.loads((ROOT / "infra" / "grafana" / "dashboards" / "taskloom.json").read_text())
    alerts = yaml.safe_load((ROOT / "infra" / "prometheus" / "alerts.yml").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]

    used = {name for query in queries for name in re.findall(r"taskloom_\w+", query)}

    assert len(queries) > 20
    assert used - metrics_of_the_code() == set()


def test_prometheus_scrapes_every_service_on_its_port() -> None:
    config = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())

    scraped = {
        job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"] for job in config["scrape_configs"]
    }

    assert scraped == HTTP_PORT


# infra/k8s


def test_kustomization_names_every_manifest() -> None:
    resources = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]

    assert sorted(resources) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("service", SERVICES)
def test_deployment_sets_only_settings_that_the_service_has(service: str) -> None:
    (container,) = pod_of(service)["containers"]
    shared = [line.split("=")[0] for line in (BASE / "settings.env").read_text().split()]

    own = [variable["name"] for variable in container["env"]]

    assert set(own) <= known_variables(SETTINGS[service])
    assert set(shared) <= known_variables(ServiceSettings)


@pytest.mark.parametrize("service", SERVICES)
def test_deployment_probes_readiness_and_health_on_the_named_port(service: str) -> None:
    (container,) = pod_of(service)["containers"]

    assert container["ports"] == [{"name": "http", "containerPort": HTTP_PORT[service]}]
    for probe, path in (("startupProbe", "/readiness"), ("readinessProbe", "/readiness"), ("livenessProbe", "/health")):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}


@pytest.mark.parametrize("service", SERVICES)
def test_kubernetes_waits_longer_than_the_drain_before_it_kills(service: str) -> None:
    pod = pod_of(service)
    (container,) = pod["containers"]
    set_to = {variable["name"]: variable.get("value") for variable in container["env"]}
    default = SETTINGS[service].model_fields["drain_timeout_s"].default

    assert pod["terminationGracePeriodSeconds"] > float(set_to.get("TASKLOOM_DRAIN_TIMEOUT_S") or default)


@pytest.mark.parametrize("service", SERVICES)
def test_selectors_find_the_pods_of_their_deployment(service: str) -> None:
    deployment = manifest("Deployment", service)["spec"]
    labels = deployment["template"]["metadata"]["labels"]

    assert deployment["selector"]["matchLabels"] == labels
    assert manifest("Service", service)["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget", service)["spec"]["selector"]["matchLabels"] == labels


@pytest.mark.parametrize("service", SERVICES)
def test_pods_run_without_rights(service: str) -> None:
    pod = pod_of(service)
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]


def test_setup_job_makes_tables_then_topics() -> None:
    pod = manifest("Job", "taskloom-setup")["spec"]["template"]["spec"]

    assert [container["args"][0] for container in pod["initContainers"] + pod["containers"]] == ["migrate", "topics"]


@pytest.mark.parametrize("service", ["orchestrator", "projection"])
def test_autoscaling_stops_at_the_number_of_partitions(service: str) -> None:
    (partitions,) = re.findall(r"^TASKLOOM_PARTITIONS=(\d+)$", (BASE / "settings.env").read_text(), re.MULTILINE)

    assert manifest("HorizontalPodAutoscaler", service)["spec"]["maxReplicas"] <= int(partitions)


def test_the_agent_of_kubernetes_knows_a_gateway_and_its_token_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (deployment,) = yaml.safe_load_all((AGENT / "agent.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = dict(line.split("=", 1) for line in (AGENT / "agent.env").read_text().split())
    given |= {variable["name"]: variable.get("value", "x") for variable in container["env"]}
    assert set(given) <= known_variables(AgentSettings)
    assert not KEPT_FROM_AGENTS & given.keys()
    for name in [name for name in os.environ if name.startswith("TASKLOOM_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    settings = load(AgentSettings)

    assert settings.gateway_urls == ("http://gateway.taskloom.svc",)  # port 80, that of the Service
    assert manifest("Service", "gateway")["spec"]["ports"][0]["port"] == 80
    assert pod["terminationGracePeriodSeconds"] > settings.drain_timeout_s
    assert container["args"] == ["agent", "--id", "$(TASKLOOM_EXECUTOR_ID)"]
    assert container["ports"] == [{"name": "http", "containerPort": settings.ops_port}]
    (room,) = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "scratch"]
    assert float(room.removesuffix("Gi")) * 1024 > settings.spill_mb
    # Two processes of one id would take each other's place for ever.
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert (
        deployment["spec"]["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )


def test_the_gateway_lets_the_agents_pod_in_and_it_runs_without_rights() -> None:
    (deployment,) = yaml.safe_load_all((AGENT / "agent.yaml").read_text())
    template = deployment["spec"]["template"]
    (rule,) = manifest("NetworkPolicy", "gateway")["spec"]["ingress"]
    executor = pod_of("executor")

    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["securityContext"] == executor["securityContext"]
    assert template["spec"]["containers"][0]["securityContext"] == executor["containers"][0]["securityContext"]


@pytest.mark.parametrize(("folder", "expected"), [(BASE, None), (AGENT, 1)])
def test_manifests_are_accepted_by_kustomize(folder: Path, expected: int | None) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")

    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    made = len(manifests()) if expected is None else expected
    assert len(list(yaml.safe_load_all(done.stdout))) == made + 1  # and the generated ConfigMap
