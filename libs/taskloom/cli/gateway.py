"""``taskloom gateway``: runs the HTTP API in the foreground until SIGTERM."""


def command() -> None:
    """Run the gateway: HTTP in, commands to Kafka out, reads from the views. Settings: taskloom config."""
    from services.gateway.app import run
    from services.gateway.settings import GatewaySettings
    from taskloom.lifecycle import main

    main("gateway", GatewaySettings, run)
