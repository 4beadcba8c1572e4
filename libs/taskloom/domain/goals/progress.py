"""The rules of a goal's progress: whether it goes on, what comes next, what a tool's failure means, how long it takes.

They are those of the chat orchestrator (``evaluateProgress``, ``selectNextAction``, ``handleToolFailure``,
``estimateCompletionTime``, ``shouldSummarizeContext``, ``getTaskSummary``), with its faults mended: a failed step never
ends a goal as completed, and there is one scheme of retries.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from taskloom.domain.goals.state import GoalState
from taskloom.domain.values import ErrorInfo

TOOL_TRIES: Final = 3
_SPENT: Final = frozenset({"BudgetExceeded", "budget_exceeded"})
"""Types of errors of what the rest of the budget is not enough for: another plan would cost even more."""

_BROKEN_OFF: Final = "tool_server_unavailable"
_SURE_TO_FAIL_AGAIN: Final = ("tool_denied", "invalid_arguments")
UNCERTAIN: Final = ("lost", "quarantined", "timeout", "tool_timeout")
"""Types of errors after which nobody knows whether a call was made."""


class Progress(Struct, frozen=True):
    should_continue: bool
    reason: str


class Action(Struct, frozen=True):
    action: str
    step_id: str
    description: str


class Verdict(Struct, frozen=True):
    should_retry: bool
    delay_s: float
    reason: str


def evaluate_progress(state: GoalState) -> Progress:
    """Whether there is anything left to do that may be done."""
    if state.settled is not None:
        return Progress(False, "The goal was achieved" if state.settled else "Task failed")
    if state.failure is not None:
        if state.failure.fault.uncertain:
            return Progress(False, "Task failed")
        if state.failure.fault.type in _SPENT:
            return Progress(False, "What is left of the budget is not enough")
        if state.plans_made >= state.given.max_plans:
            return Progress(False, "Maximum retry count exceeded")
    elif state.planned and state.next is None and state.current is None:
        return Progress(False, "All steps completed")
    if spent := over_budget(state):
        return Progress(False, spent)
    if state.steps_begun >= state.given.max_steps and state.current is None:
        return Progress(False, f"Maximum number of steps reached ({state.given.max_steps})")
    return Progress(True, "More steps to execute")


def is_achieved(state: GoalState) -> bool:
    return state.planned and state.failure is None and state.current is None and state.next is None


def over_budget(state: GoalState) -> str:
    """Which part of the budget is used up, in words; empty when none is."""
    budget, used = state.given.budget, state.used_with_current
    if budget is None:
        return ""
    tokens = used.input_tokens + used.output_tokens
    if budget.tokens is not None and tokens >= budget.tokens:
        return f"{tokens} of {budget.tokens} tokens of the budget are used"
    if budget.cost_usd is not None and used.cost_usd >= budget.cost_usd:
        return f"{used.cost_usd:g} of {budget.cost_usd:g} USD of the budget are used"
    return ""


def budget_left(state: GoalState) -> dict[str, Any] | None:
    """What a task of the goal may use up; None without a budget."""
    budget, used = state.given.budget, state.used_with_current
    if budget is None:
        return None
    left: dict[str, Any] = {}
    if budget.tokens is not None:
        left["tokens"] = max(1, budget.tokens - used.input_tokens - used.output_tokens)
    if budget.cost_usd is not None:
        left["cost_usd"] = max(1e-9, budget.cost_usd - used.cost_usd)
    return left or None


def select_next_action(state: GoalState) -> Action | None:
    """The step that comes next; None when there is none, or a new plan is needed first."""
    step = state.next
    if step is None or state.failure is not None or state.current is not None:
        return None
    return Action(step.type, step.id, step.description)


def handle_tool_failure(tool: str, error: str, attempt: int, *, idempotent: bool = True) -> Verdict:
    """What follows the failed ``attempt`` (from 1) of a tool: another after 2 and then 4 seconds, none after the third.
    None either when nobody knows whether a tool did its work that must not do it twice."""
    if error in _SURE_TO_FAIL_AGAIN:
        return Verdict(False, 0.0, f"{tool} would fail again: {error}")
    if error in (*UNCERTAIN, _BROKEN_OFF) and not idempotent:
        return Verdict(False, 0.0, f"nobody knows whether {tool} did its work ({error}); somebody has to retry it")
    if attempt >= TOOL_TRIES:
        return Verdict(False, 0.0, f"{tool} failed {attempt} times")
    return Verdict(True, float(2**attempt), f"attempt {attempt} of {tool} failed: {error}")


def is_uncertain(error: ErrorInfo) -> bool:
    """Whether a call that ended so may have been made; a server that broke off says so by asking for no other try."""
    return error.type in UNCERTAIN or (error.type == _BROKEN_OFF and not error.retryable)


def tool_retry(idempotent: bool) -> dict[str, Any]:
    """``handle_tool_failure`` as the retry policy of a task."""
    first, second = (handle_tool_failure("", "tool_failed", attempt).delay_s for attempt in (1, 2))
    never = [*_SURE_TO_FAIL_AGAIN, *(() if idempotent else ("timeout", "tool_timeout"))]
    policy = {"max_attempts": TOOL_TRIES, "initial_s": first, "factor": second / first, "non_retryable": never}
    return policy if idempotent else {**policy, "max_lost": 1}


def estimate_completion(state: GoalState, now: datetime) -> datetime:
    """When the rest of the plan should be done, by the estimates of its steps."""
    return now + timedelta(milliseconds=sum(step.estimated_ms for step in state.steps[state.index :]))


def should_summarize(tokens: int, limit: int, threshold: float = 0.8) -> bool:
    return tokens > limit * threshold


def task_summary(state: GoalState, status: str) -> str:
    """One line: status, how much is done, the step and what it does."""
    total, at = len(state.steps), state.index
    percent = 0 if not total else at * 100 // total
    step = state.next
    return f"{status}, {percent} %, step {min(at + 1, total)}/{total}" + (f": {step.description}" if step else "")
