"""Builds, tests, lints and deploys a real Git repository with the prebuilt CI/CD workflow.

Twice: a good commit is deployed; one that breaks a test is not, and what was deployed stays.
Run it beside ``make up``: .venv/bin/python examples/ci_cd/run.py
"""

from pathlib import Path
from typing import Any

from examples.ci_cd.agent import perform
from examples.shared.repository import Repository, git_is_there
from examples.shared.stage import AsJson, Keep, Stage, agent_id, beside_taskloom, play, start, work_directory
from taskloom.client.tasks import TaskAPI
from taskloom.client.workflows import Workflow, create_ci_cd_workflow

CAPABILITIES = ["code_generation", "testing", "deployment"]


def main(as_json: AsJson = False, keep: Keep = False) -> None:
    """Build, test, lint and deploy a real Git repository with the prebuilt CI/CD workflow."""
    if not git_is_there():
        raise SystemExit("error: this example needs git, which is not installed (Debian: apt-get install git)")
    beside_taskloom()
    play(show(Stage(as_json), keep))


async def show(stage: Stage, keep: bool) -> None:
    with work_directory("ci-cd", keep) as work:
        repository = Repository(work / "repository")
        deployed = work / "deployed"
        async with TaskAPI() as api:
            stage.act("1. A good commit", f"  {repository.url} is at {repository.first[:12]}")
            workflow = pipeline(repository, repository.first, work)
            async with stage.executing(api, workflow) as running:
                # Nobody can do the work yet. It waits, and says for what.
                gates = await stage.wait_for_gate(api, f"{workflow.id}~step_1", running)
                await api.register_agent(agent_id("ci-cd"), "builder", CAPABILITIES, perform)
                good = await running
            outcome(stage, good, deployed)
            await stage.show_timeline(api, str(good.id))

            stage.act("2. A commit that breaks a test")
            repository.replace("src/wordtally/counting.py", ".lower()", "")
            repository.replace("pyproject.toml", "1.0.0", "1.1.0")
            broken_commit = repository.commit("feat: words keep their case")
            broken = await stage.execute(api, pipeline(repository, broken_commit, work))
            outcome(stage, broken, deployed)
            await stage.show_timeline(api, str(broken.id))
        stage.done({"waited_for": gates, "good": facts(good, deployed), "broken": facts(broken, deployed)})


def pipeline(repository: Repository, revision: str, work: Path) -> Workflow:
    """The prebuilt workflow. What its steps need beside the repository is in its context and variables."""
    workflow = create_ci_cd_workflow(f"CI/CD of {revision[:12]}", "example", repository.url)
    workflow.context = {"work_directory": str(work), "deploy_directory": str(work / "deployed")}
    workflow.variables = {"revision": revision}
    return workflow


def facts(run: Workflow, deployed: Path) -> dict[str, Any]:
    current = deployed / "current"
    return {
        "run": str(run.id),
        "status": run.status.value,
        "variables": run.variables,
        "steps": {step.id: step.status.value for step in run.steps},
        "current_release": current.resolve().name if current.exists() else None,
    }


def outcome(stage: Stage, run: Workflow, deployed: Path) -> None:
    told = run.variables
    stage.say(f"{told['tests_passed']} tests passed, {told['tests_failed']} failed, {told['lint_issues']} lint issues")
    release = f"{deployed / 'current'} → {(deployed / 'current').resolve().name}"
    if "deployed" in told:
        stage.say(f"deployed: {release}; asked, it answers: {', '.join(told['deployed']['answer'])}")
    else:
        stage.say(f"[bold]not deployed[/bold]; as before: {release}")


if __name__ == "__main__":
    start(main)
