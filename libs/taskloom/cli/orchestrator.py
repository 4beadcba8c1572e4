"""``taskloom orchestrator``: decides commands, writes events, dispatches work."""

from services.orchestrator.app import run
from services.orchestrator.settings import OrchestratorSettings
from taskloom.lifecycle import main


def command() -> None:
    """Run the orchestrator in the foreground until SIGTERM."""
    main("orchestrator", OrchestratorSettings, run)
