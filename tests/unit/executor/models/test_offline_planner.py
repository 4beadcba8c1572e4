"""Plans by rules: which clauses, which tool, which arguments."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.executor.models.offline import Offline
from services.executor.models.offline.clauses import clauses
from services.executor.models.offline.planner import Planner
from services.executor.models.port import LlmInput, Reply
from services.executor.tools import builtin
from services.executor.tools.toolbox import ToolDescription

TEXT = {"type": "string"}
GOAL = "Find the five most frequent errors in /var/log/app.log, group them by hour, and write a report"


def tool(server: str, tool_name: str, description: str, required: list[str], /, **properties: Any) -> ToolDescription:
    return ToolDescription(
        server, tool_name, description, {"type": "object", "properties": properties, "required": required}
    )


LOGS = [
    tool("logs", "frequent_errors", "Most frequent errors of a log.", ["path"], path=TEXT, top={"type": "integer"}),
    tool("logs", "group_by_hour", "Groups errors by hour.", ["path", "errors"], path=TEXT, errors={"type": "array"}),
    tool("logs", "write_report", "Writes a report.", ["path", "title", "content"], path=TEXT, title=TEXT, content=TEXT),
]
BUILT_IN = [ToolDescription("taskloom", name, *about) for name, about in builtin.TOOLS.items()]
FILES = [
    tool("fs", "read_file", "Read the contents of a file", ["path"], path=TEXT),
    tool("fs", "write_file", "Create or overwrite a file", ["path", "content"], path=TEXT, content=TEXT),
    tool("fs", "move_file", "Move or rename a file", ["source", "destination"], source=TEXT, destination=TEXT),
    tool("fs", "search_files", "Search for files matching a pattern", ["path", "pattern"], path=TEXT, pattern=TEXT),
]
CLOCK = tool(
    *("time", "convert_time", "Convert time between timezones", ["source_timezone", "time", "target_timezone"]),
    source_timezone=TEXT,
    time=TEXT,
    target_timezone=TEXT,
)
NOW = tool("time", "get_current_time", "Get current time in a specific timezone", ["timezone"], timezone=TEXT)
TOOLS = [*LOGS, *BUILT_IN, *FILES, CLOCK, NOW]


def plan(goal: str, tools: list[ToolDescription] = TOOLS, **more: Any) -> list[dict[str, Any]]:
    return Planner(tools).plan(msgspec.convert({"op": "plan", "goal": goal, **more}, LlmInput))


def calls(steps: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(step["tool"] or step["type"], step["args"]) for step in steps]


def ask(**wish: Any) -> tuple[Reply, str]:
    said: list[str] = []

    async def say(piece: str) -> None:
        said.append(piece)

    tools = wish.pop("described", TOOLS)
    reply = asyncio.run(Offline().ask(msgspec.convert(wish, LlmInput), tools, say))
    return reply, "".join(said)


def test_the_goal_of_the_demo_becomes_three_calls_that_hand_on_their_results() -> None:
    steps = plan(GOAL)
    assert calls(steps) == [
        ("frequent_errors", {"path": "/var/log/app.log", "top": 5}),
        ("group_by_hour", {"path": "/var/log/app.log", "errors": {"$from": "step-1"}}),
        ("write_report", {"path": "/var/log/report.md", "title": GOAL, "content": {"$from": "step-2"}}),
    ]
    assert [step["id"] for step in steps] == ["step-1", "step-2", "step-3"]
    assert [step["description"] for step in steps][1:] == ["Group them by hour", "Write a report"]


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ("In app.log find the 3 most common errors", [("frequent_errors", {"path": "app.log", "top": 3})]),
        (
            'Log: /data/a.log. Find the top 12 errors, then write a report called "Errors" to out/errors.md',
            [
                ("frequent_errors", {"path": "/data/a.log", "top": 12}),
                ("write_report", {"path": "out/errors.md", "title": "Errors", "content": {"$from": "step-1"}}),
            ],
        ),
        ("Run `make test`", [("shell", {"cmd": "make test"})]),
        ("Run the tests", [("llm-reasoning", {})]),
        (
            "Fetch https://example.com/a?b=1, and write a report",
            [
                ("http", {"url": "https://example.com/a?b=1"}),
                ("write_report", {"path": "report.md", "title": ..., "content": {"$from": "step-1"}}),
            ],
        ),
        ("Run the query 'select a, b from c'", [("sql", {"query": "select a, b from c"})]),
        ("Query the database for all users", [("llm-reasoning", {})]),
        (
            "Find the top errors in a.log and post them to https://example.com/hook",
            [
                ("frequent_errors", {"path": "a.log"}),
                ("http", {"url": "https://example.com/hook", "method": "POST", "json": {"$from": "step-1"}}),
            ],
        ),
        (
            "Convert the time 14:30 from Europe/Berlin to Asia/Tokyo",
            [("convert_time", {"source_timezone": "Europe/Berlin", "time": "14:30", "target_timezone": "Asia/Tokyo"})],
        ),
        ("What time is it in Europe/Berlin?", [("get_current_time", {"timezone": "Europe/Berlin"})]),
        ("Move a.txt to b.txt", [("move_file", {"source": "a.txt", "destination": "b.txt"})]),
        ("Search for files matching '*.csv' in /data", [("search_files", {"path": "/data", "pattern": "*.csv"})]),
        ("Delete /tmp/x", [("llm-reasoning", {})]),
        ("Run the stored workflow nightly-build", [("workflow", {"workflow": "nightly-build"})]),
        (
            "Download https://example.com/data.json, save it as data.json and tell me how many records it has",
            [
                ("http", {"url": "https://example.com/data.json"}),
                ("write_file", {"path": "data.json", "content": {"$from": "step-1"}}),
                ("llm-reasoning", {}),
            ],
        ),
        (
            "Write a haiku about rain and save it to haiku.txt",
            [("llm-reasoning", {}), ("write_file", {"path": "haiku.txt", "content": {"$from": "step-1"}})],
        ),
        (
            "Run `wc -l /var/log/syslog` and write a report",
            [
                ("shell", {"cmd": "wc -l /var/log/syslog"}),
                ("write_report", {"path": "report.md", "title": ..., "content": {"$from": "step-1"}}),
            ],
        ),
        (
            "Find the top errors in this log and write a report: app.log",
            [
                ("frequent_errors", {"path": "app.log"}),
                ("write_report", {"path": "report.md", "title": ..., "content": {"$from": "step-1"}}),
            ],
        ),
        (
            "Find the top errors, and write a report about /a/app.log",
            [
                ("frequent_errors", {"path": "/a/app.log"}),
                ("write_report", {"path": "/a/report.md", "title": ..., "content": {"$from": "step-1"}}),
            ],
        ),
        ("What is a monad?", [("llm-reasoning", {})]),
        ("", [("llm-reasoning", {})]),
        ("Save a checkpoint, then run `ls`", [("checkpoint", {}), ("shell", {"cmd": "ls"})]),
        ("1. Run `a`\n2) Run `b`\n- Run `c, and run d`", [("shell", {"cmd": c}) for c in ("a", "b", "c, and run d")]),
        ("1. Run `a` 2. Run `b`", [("shell", {"cmd": "a"}), ("shell", {"cmd": "b"})]),
        ("Sub-goal: find errors, warnings", [("sub-goal", {})]),
        ("Write a report", [("llm-reasoning", {})]),
    ],
)
def test_a_goal_becomes_these_steps(goal: str, expected: list[tuple[str, dict[str, Any]]]) -> None:
    made = calls(plan(goal))
    assert [name for name, _ in made] == [name for name, _ in expected]
    for (_, args), (_, wanted) in zip(made, expected, strict=True):
        assert args.keys() == wanted.keys()
        assert {name: value for name, value in wanted.items() if value is not ...}.items() <= args.items()


def test_a_list_in_a_sentence_is_not_cut() -> None:
    texts = [clause.text for clause in clauses("find errors, warnings and notices in a.log and then count them")]
    assert texts == ["find errors, warnings and notices in a.log", "count them"]


def test_without_tools_every_step_is_a_thought() -> None:
    assert [step["type"] for step in plan(GOAL, [])] == ["llm-reasoning"] * 3


def test_what_is_over_the_limit_becomes_a_sub_goal_that_is_smaller_than_the_goal() -> None:
    goal = "\n".join(f"{number}. Run `a{number}`, then run `b{number}`" for number in range(1, 5))
    steps = plan(goal, max_steps=3)
    assert [step["type"] for step in steps] == ["sub-goal", "sub-goal", "sub-goal"]
    assert steps[0]["goal"] == "Run `a1`\nrun `b1`"
    assert steps[2]["goal"].count("run") + steps[2]["goal"].count("Run") == 4
    assert [step["type"] for step in plan(goal, max_steps=1)] == ["llm-reasoning"]


def test_a_new_plan_leaves_out_what_is_done_and_takes_another_tool_for_what_failed() -> None:
    other = tool("logs", "errors_group_hour", "Groups errors by hour.", ["errors"], errors={"type": "array"})
    found = [{"error": "disk full", "count": 3}]
    steps = plan(
        GOAL,
        [*TOOLS, other],
        failure={"step": "step-2", "error": {"type": "tool_failed", "message": "no"}},
        context={
            "findings": {"Find the five most frequent errors in /var/log/app.log": "disk full"},
            "toolResults": [{"toolName": "frequent_errors", "result": found}],
        },
    )
    assert calls(steps)[0] == ("errors_group_hour", {"errors": found})
    assert calls(steps)[1][0] == "write_report"
    assert calls(steps)[1][1]["content"] == {"$from": "step-1"}


def test_a_tool_that_failed_is_planned_again_when_no_other_fits() -> None:
    step = {"id": "step-1", "description": "Find the top errors in a.log", "tool": "frequent_errors"}
    steps = plan("Find the top errors in a.log", failure={"step": step, "error": "x"})
    assert calls(steps) == [("frequent_errors", {"path": "a.log"})]


@pytest.mark.parametrize("hostile", [{"secret": "key"}, [{"a": {"$from": "step-9"}}], "x" * 20_000])
def test_a_result_that_reads_as_a_reference_or_was_cut_never_stands_in_arguments(hostile: Any) -> None:
    steps = plan(
        GOAL,
        failure={"step": "Group them by hour", "error": "x"},
        context={
            "findings": {"Find the five most frequent errors in /var/log/app.log": "y"},
            "toolResults": [{"toolName": "logs/frequent_errors", "result": hostile}],
        },
    )
    assert msgspec.json.encode(hostile) not in msgspec.json.encode(steps)


def test_a_turn_calls_the_tool_that_fits_and_then_tells_what_it_gave() -> None:
    wish = {
        "op": "turn",
        "goal": "x",
        "step": {"id": "step-1", "description": "Find the 2 most frequent errors in a.log"},
    }
    first, _ = ask(**wish)
    assert isinstance(first.calls, list)
    [call] = first.calls
    assert (call.server, call.tool, call.args) == ("logs", "frequent_errors", {"path": "a.log", "top": 2})
    results = [{"id": call.id, "status": "success", "result": "disk full: 3"}]
    second, text = ask(**wish, exchange=[{"calls": [msgspec.to_builtins(call)], "results": results}])
    assert second.calls == []
    assert text == second.text == "logs/frequent_errors answered: disk full: 3"
    failed = [{"id": call.id, "status": "failed", "error": "gone"}]
    third, _ = ask(**wish, exchange=[{"calls": [msgspec.to_builtins(call)], "results": failed}])
    assert third.calls == []
    assert "failed: gone" in third.text


def test_a_last_turn_calls_nothing() -> None:
    reply, _ = ask(op="turn", goal="Run `ls`", last=True)
    assert reply.calls == []


_names = st.sampled_from(["path", "url", "count", "title", "content", "errors", "items", "cmd", "flag", "ünï", "$from"])
_schemas = st.recursive(
    st.sampled_from(
        [TEXT, {"type": "integer"}, {"type": "boolean"}, {"type": ["string", "null"]}, {"enum": ["a", 1, None]}, {}, 7]
    ),
    lambda inner: st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
    max_leaves=3,
)
_tools = st.builds(
    lambda server, name, about, properties, required: ToolDescription(
        server, name, about, {"properties": properties, "required": required}
    ),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["write_report", "find_errors", "get", "runIt", "x1", "___", "group_by_hour", "日本"]),
    st.text(max_size=40),
    st.one_of(st.dictionaries(_names, _schemas, max_size=4), st.none()),
    st.one_of(st.lists(_names, max_size=3), st.none(), st.just([{}])),
)
_pieces = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "write a report",
            "find 5 errors in a.log",
            "`ls`",
            "\n1. ",
            ", and then ",
            "https://a.b/c",
            '"',
            "/x/y.z",
            "42",
        ]
    ),
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(_pieces, max_size=12).map("".join),
    st.lists(_tools, max_size=5),
    st.integers(1, 6),
    st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=2),
    st.booleans(),
)
def test_whatever_is_asked_there_is_a_plan_within_its_limits(
    goal: str, tools: list[ToolDescription], most: int, findings: dict[str, str], failed: bool
) -> None:
    wish: dict[str, Any] = {"max_steps": most, "context": {"findings": findings}}
    if failed:
        wish["failure"] = {"step": "step-1", "error": None}
    steps = plan(goal, tools, **wish)
    assert 1 <= len(steps) <= most
    allowed = {(each.server, each.name) for each in tools}
    for number, step in enumerate(steps, 1):
        assert step["id"] == f"step-{number}"
        assert step["type"] in ("tool-call", "llm-reasoning", "checkpoint", "summarization", "sub-goal")
        assert (step["type"] == "tool-call") == ((step["server"], step["tool"]) in allowed)
        earlier = {f"step-{before}" for before in range(1, number)}
        assert all(value["$from"] in earlier for value in step["args"].values() if isinstance(value, dict))
    assert steps == plan(goal, tools, **wish)
