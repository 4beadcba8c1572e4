"""What the chat orchestrator's requests become: goals with the tools that were asked for, and no others."""

from typing import Any

import msgspec
import pytest

from services.gateway.chat.wishes import ChatMessage, OrchestrateGoal, SendMessage, goal_input, tools_of


def wish(**fields: Any) -> OrchestrateGoal:
    return msgspec.convert({"goal": "g", "threadId": "t", **fields}, OrchestrateGoal)


def said(**fields: Any) -> SendMessage:
    parts = [{"type": "text", "text": "Find the errors"}, {"type": "file", "url": "x"}, {"type": "text", "text": "now"}]
    return msgspec.convert({"id": "t", "message": {"id": "m", "role": "user", "parts": parts}, **fields}, SendMessage)


SERVERS = {"gh": {"tools": ["create_issue", "create_issue"]}, "logs": {}}


@pytest.mark.parametrize(
    ("fields", "tools"),
    [
        ({}, {}),
        ({"allowedMcpServers": SERVERS}, {"gh": {"tools": ["create_issue"]}, "logs": {"tools": None}}),
        ({"allowedAppDefaultToolkit": ["code", "webSearch", "sql"]}, {"taskloom": {"tools": ["python", "sql"]}}),
        ({"allowedAppDefaultToolkit": ["webSearch"]}, {}),
        (
            {"allowedMcpServers": {"taskloom": {"tools": ["http"]}}, "allowedAppDefaultToolkit": ["code"]},
            {"taskloom": {"tools": ["http"]}},
        ),
        (
            {
                "allowedMcpServers": SERVERS,
                "mentions": [
                    {"type": "mcpTool", "serverId": "gh", "name": "list"},
                    {"type": "mcpTool", "serverId": "gh", "name": "list"},
                    {"type": "mcpServer", "serverName": "logs"},
                    {"type": "mcpTool", "serverId": "logs", "name": "tail"},
                    {"type": "workflow", "workflowId": "w"},
                    {"type": "defaultTool", "name": "code"},
                    {"type": "agent", "agentId": "a"},
                    {"type": "mcpTool", "name": "nowhere"},
                ],
            },
            {"gh": {"tools": ["list"]}, "logs": {"tools": None}, "taskloom": {"tools": ["workflow", "python"]}},
        ),
        ({"mentions": [{"type": "agent"}], "allowedMcpServers": {"gh": {"tools": []}}}, {"gh": {"tools": []}}),
    ],
)
def test_a_goal_has_the_tools_that_were_named_and_no_others(fields: dict[str, Any], tools: dict[str, Any]) -> None:
    assert tools_of(wish(**fields), ()) == tools


def test_the_toolkit_of_the_settings_is_for_who_names_none() -> None:
    assert tools_of(wish(), ("http",)) == {"taskloom": {"tools": ["http"]}}
    assert tools_of(wish(allowedAppDefaultToolkit=[]), ("http",)) == {}


def test_the_rest_of_a_wish_goes_into_the_goal() -> None:
    history = [{"role": "user", "content": "hi"}]
    asked = wish(chatModel={"provider": "openai", "model": "m"}, agentId="a1", mentions=[{"type": "agent"}])
    assert goal_input("do it", asked, (), history) == {
        "goal": "do it",
        "tools": {},
        "model": {"provider": "openai", "model": "m"},
        "agent_id": "a1",
        "mentions": [{"type": "agent"}],
        "history": history,
    }
    assert goal_input("do it", said(allowedMcpServers=SERVERS, toolChoice="none"), (), []) == {
        "goal": "do it",
        "tools": {},
    }
    assert goal_input("do it", said(toolChoice="manual"), (), [])["review"] is True


def test_a_message_is_its_text_parts_joined_with_a_space() -> None:
    assert said().message.text == "Find the errors now"
    assert ChatMessage([]).text == ""


def test_short_messages_and_pictures_are_no_goals() -> None:
    assert not said().may_be_a_goal
    long = {"parts": [{"type": "text", "text": "Find all the errors now"}]}
    assert msgspec.convert({"id": "t", "message": long}, SendMessage).may_be_a_goal
    assert not msgspec.convert({"id": "t", "message": long, "imageTool": {"model": "x"}}, SendMessage).may_be_a_goal
