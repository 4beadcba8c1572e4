"""Reviews a real diff between two branches with the prebuilt code review workflow.

The first round finds an unused import and an ``eval``; the workflow takes the branch that mends them, with a real
commit. The second round finds nothing, so a person is asked. Who does not say --approve or --reject is the person.
Run it beside ``make up``: .venv/bin/python examples/code_review/run.py
"""

import asyncio
import sys
from typing import Annotated, Any

import httpx
import typer

from examples.code_review.agent import perform, review_id
from examples.shared.repository import Repository, git_is_there
from examples.shared.stage import AsJson, Keep, Stage, agent_id, beside_taskloom, play, start, work_directory
from taskloom.client.tasks import TaskAPI
from taskloom.client.workflows import Workflow, create_code_review_workflow

CAPABILITIES = ["code_analysis", "testing", "code_generation", "code_review"]
BRANCH = "limits"
A_DAY_S = 86_400
NEW_FILES = {
    "src/wordtally/limits.py": '''import os


def limit_of(text: str) -> int:
    """How many words to show, written as ``3`` or ``1_000``."""
    return int(eval(text))
''',
    "tests/test_limits.py": """from wordtally.limits import limit_of


def test_a_limit_may_have_underscores() -> None:
    assert (limit_of("3"), limit_of("1_000")) == (3, 1000)
""",
}

Approve = Annotated[bool | None, typer.Option("--approve/--reject", help="The decision; asked for when not given.")]


def main(approve: Approve = None, as_json: AsJson = False, keep: Keep = False) -> None:
    """Review a diff between two branches with the prebuilt code review workflow."""
    if not git_is_there():
        raise SystemExit("error: this example needs git, which is not installed (Debian: apt-get install git)")
    if approve is None and (as_json or not sys.stdin.isatty()):
        raise SystemExit("error: there is no terminal to ask for the decision; say --approve or --reject")
    beside_taskloom()
    play(show(Stage(as_json), approve, keep))


async def show(stage: Stage, approve: bool | None, keep: bool) -> None:
    with work_directory("review", keep) as work:
        repository = Repository(work / "repository")
        propose(repository)
        async with TaskAPI() as api:
            await api.register_agent(agent_id("reviewer"), "reviewer", CAPABILITIES, perform)
            stage.act("1. A pull request with issues", repository.git("diff", "--stat", f"main...{BRANCH}"))
            first = await stage.execute(api, review(repository))
            for check in ("lint", "security", "tests"):
                for issue in first.variables[f"{check}_issues"]:
                    stage.say(f"{check}: {issue}")
            stage.say(f"[bold]mended by the commit {first.variables['fixed_by'][:12]}[/bold]")
            stage.out.print(repository.git("show", "--format=%s", BRANCH), markup=False)

            stage.act("2. The same pull request with that commit")
            second = review(repository)
            async with stage.executing(api, second, redraw=approve is not None) as running:
                gates = await decide(stage, api, second, running, approve)
                await running
            verdict = second.variables["review"]
            stage.say(f"[bold]{'approved' if verdict['approved'] else 'rejected'}[/bold]: {verdict['comment']}")
            if verdict["approved"]:
                repository.git("merge", "--quiet", "--no-ff", "--message", f"merge {BRANCH}", BRANCH)
            stage.say("main: " + ", ".join(repository.git("log", "--topo-order", "--format=%s", "main").splitlines()))
            await stage.show_timeline(api, str(second.id))
        log = repository.git("log", "--topo-order", "--format=%s", "main").splitlines()
        told = {"waited_for": gates, "branch_head": repository.git("rev-parse", BRANCH), "main": log}
        stage.done({"first": facts(first), "second": facts(second), **told})


def propose(repository: Repository) -> None:
    """A branch with a new function and its test. Its test passes; two checks will not like it."""
    repository.git("switch", "--quiet", "--create", BRANCH)
    for file, text in NEW_FILES.items():
        (repository.path / file).write_text(text)
    repository.commit("feat: limits as text")
    repository.git("switch", "--quiet", "main")


def review(repository: Repository) -> Workflow:
    """The prebuilt workflow. All checks have passed until one of them says otherwise."""
    workflow = create_code_review_workflow("review", "example", f"{repository.url}?base=main&head={BRANCH}")
    workflow.variables["all_checks_passed"] = True
    human = workflow.get_step_by_id("human_review")
    assert human is not None
    assert human.task_template is not None
    human.task_template["timeout_seconds"] = A_DAY_S  # people are slower than machines
    return workflow


async def decide(
    stage: Stage, api: TaskAPI, workflow: Workflow, running: "asyncio.Task[Workflow]", approve: bool | None
) -> list[str]:
    """Waits until a person is asked, and sends the decision."""
    asked = review_id(f"{workflow.id}~step_2.human_review")
    gates = await stage.wait_for_gate(api, asked, running)
    if approve is None:
        said = await line_typed(f"{(await api.client.get(asked)).name} [Y/n]: ")
        approve = not said.lower().startswith("n")
    comment = "reads well" if approve else "not needed"
    async with httpx.AsyncClient(base_url=api.client.base_url, trust_env=False) as http:
        decision = {"approved": approve, "comment": comment}
        (await http.post(f"/api/v1/tasks/{asked}/approvals/take_it", json=decision)).raise_for_status()
    return gates


async def line_typed(question: str) -> str:
    """What is typed; not in a thread, which could not be interrupted."""
    print(question, end="", flush=True)
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()

    def take() -> None:
        loop.remove_reader(sys.stdin)
        typed.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, take)
    try:
        return (await typed).strip()
    finally:
        loop.remove_reader(sys.stdin)


def facts(run: Workflow) -> dict[str, Any]:
    return {"run": str(run.id), "status": run.status.value, "variables": run.variables}


if __name__ == "__main__":
    start(main)
