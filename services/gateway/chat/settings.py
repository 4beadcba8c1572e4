"""Settings of the chat orchestrator's calls."""

from pydantic import Field

from taskloom.settings import ServiceSettings


class ChatSettings(ServiceSettings):
    """How long its calls wait, where its goals wait, and what goals may use that name no tools."""

    chat_plan_wait_s: float = Field(
        30.0,
        ge=0,
        le=300,
        description="How long a new goal's answer waits for its plan, in seconds; without one it has no steps yet",
    )
    chat_detect_wait_s: float = Field(
        15.0,
        ge=0,
        le=300,
        description="How long POST /api/chat waits to hear whether a message is work for a goal, in seconds; then it "
        "is none",
    )
    chat_answer_wait_s: float = Field(
        300.0, gt=0, le=3600, description="Longest answer to a message in POST /api/chat, in seconds"
    )
    chat_toolkit: str = Field(
        "",
        description="Built-in tools (shell, http, python, sql, submit, workflow) of chats that name no "
        "allowedAppDefaultToolkit, comma-separated; empty: none",
    )

    chat_queue: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9:_.-]{1,128}$",
        description="Queue of goals that chats begin, and of all that these do; an executor has to serve it",
    )

    @property
    def toolkit(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.chat_toolkit.split(",") if name.strip())
