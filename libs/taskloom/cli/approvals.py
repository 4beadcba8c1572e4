"""``taskloom approvals``: what waits for a decision, and deciding."""

from typing import Annotated

import typer

from taskloom.cli import completing
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago
from taskloom.cli.waterfall import first_line
from taskloom.client import approval_calls as calls
from taskloom.client.approval_calls import Approval, ApprovalChoice, ApprovalPage, Decided

app = typer.Typer(help="What waits for a decision, and deciding.", no_args_is_help=True, add_completion=False)

Id = Annotated[
    str,
    typer.Argument(
        metavar="APPROVAL", help="Id of the approval, as list shows it.", autocompletion=completing.approvals
    ),
]
Feedback = Annotated[str, typer.Option(help="Why; kept in the task's history.")]


@app.command("list")
def list_approvals(
    status: Annotated[str, typer.Option(help="pending, decided, expired, withdrawn, or all.")] = "pending",
    task: Annotated[str, typer.Option(help="Of this task.")] = "",
    session: Annotated[str, typer.Option(help="Of this session's tasks.")] = "",
    approver: Annotated[str, typer.Option(help="Which this user may decide; me is you.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    cursor: Annotated[str, typer.Option(help="Go on where the last page ended.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List approvals, newest first."""
    chosen: ApprovalChoice = {"workflow_id": task, "session_id": session, "approver": approver}
    chosen |= {"limit": limit, "cursor": cursor, "status": "" if status == "all" else status}
    answer(url, calls.list_approvals(chosen), as_json, _show)


@app.command()
def approve(approval: Id, feedback: Feedback = "", as_json: Json = False, url: Url = HERE) -> None:
    """Agree: the task, or the step, goes on."""
    wish = calls.decide(calls.task_of(approval), approval, approved=True, feedback=feedback)
    answer(url, wish, as_json, lambda done: _said(done, "approved"))


@app.command()
def deny(approval: Id, feedback: Feedback = "", as_json: Json = False, url: Url = HERE) -> None:
    """Refuse: the task fails, or its step does what its definition says."""
    wish = calls.decide(calls.task_of(approval), approval, approved=False, feedback=feedback)
    answer(url, wish, as_json, lambda done: _said(done, "denied"))


def _said(done: Decided, word: str) -> None:
    print(f"{done.approval_id} is {word}")


def _show(page: ApprovalPage) -> None:
    columns = (
        *(Column("approval"), Column("status"), Column("asked", 2), Column("message", 1, most=50)),
        *(Column("approvers", 3), Column("decided by", 4), Column("feedback", 5, most=50)),
    )
    rows = [_row(each) for each in page.approvals]
    cursor = f"--cursor {page.next_cursor}" if page.next_cursor else ""
    print_listing(columns, rows, empty="nothing waits for a decision", cursor=cursor)


def _row(each: Approval) -> tuple[str, ...]:
    word = each.status if each.approved is None else ("approved" if each.approved else "denied")
    who = (", ".join(each.approvers) or "anybody", each.approved_by, first_line(each.feedback))
    return (each.approval_id, word, ago(each.requested_at), first_line(each.message), *who)
