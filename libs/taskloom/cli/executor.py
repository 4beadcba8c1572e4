"""``taskloom executor``: runs attempts."""


def executor() -> None:
    """Run an executor: takes assignments from Kafka, runs them, reports. Settings come from TASKLOOM_* variables."""
    from services.executor.app import run
    from services.executor.settings import ExecutorSettings
    from taskloom.lifecycle import main

    main("executor", ExecutorSettings, run)
