"""Imported by an agent's executor at its start: registers the agent's function.

A module of its own, since the function's module will itself import the task API.
"""

import os

from taskloom.client.tasks.agent import FUNCTION_VARIABLE, loaded, register

_named = os.environ.get(FUNCTION_VARIABLE)
register(loaded(_named) if _named else None)
