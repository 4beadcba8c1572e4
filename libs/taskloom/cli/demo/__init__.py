"""`taskloom demo`: the whole system on this machine, real tasks live in the terminal, then what their history tells."""

import asyncio


def command() -> None:
    """Starts everything in a home of its own, runs real tasks, shows them live, checks how they ended, and stops.

    Takes about a minute. TASKLOOM_HOME keeps the data; without it they go with the demo. Exit 1 when anything did not
    end as it should.
    """
    from taskloom.cli.demo.run import run_demo

    raise SystemExit(asyncio.run(run_demo()))
