"""``taskloom projection``: keeps the read tables up to date with events and outputs."""


def command() -> None:
    """Run the projection: applies events, outputs and heartbeats to the read tables until SIGTERM."""
    from services.projection.app import run
    from services.projection.settings import ProjectionSettings
    from taskloom.lifecycle import main

    main("projection", ProjectionSettings, run)
