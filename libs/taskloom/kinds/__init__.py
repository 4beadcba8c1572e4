"""The public API for new kinds of work: write a ``Handler``, name it in the entry-point group ``taskloom.kinds``.

::

    from taskloom.kinds import Context, Handler, Outcome, TaskError

    class Greet(Handler):
        kind = "greet"

        async def run(self, ctx: Context) -> Outcome:
            name = ctx.input.get("name")
            if not name:
                raise TaskError("invalid_input", "input.name is missing; send whom to greet", retryable=False)
            await ctx.write(f"Hello {name}\\n")
            return Outcome(result=f"greeted {name}", response={"name": name})

and in its package: ``[project.entry-points."taskloom.kinds"]``, ``greet = "my_package:Greet"``.
"""

from taskloom.kinds.api import Context, Exit, Handler, Limits, Outcome, Process, SecretRef, Supervised, TaskError
from taskloom.kinds.functions import Function, UnknownFunction, current_context, function, registered
from taskloom.kinds.inputs import InvalidInput, schema, validate
from taskloom.kinds.registry import GROUP, PluginError, load_plugins

__all__ = [
    "GROUP",
    "Context",
    "Exit",
    "Function",
    "Handler",
    "InvalidInput",
    "Limits",
    "Outcome",
    "PluginError",
    "Process",
    "SecretRef",
    "Supervised",
    "TaskError",
    "UnknownFunction",
    "current_context",
    "function",
    "load_plugins",
    "registered",
    "schema",
    "validate",
]
