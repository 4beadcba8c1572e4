"""From ``module:app`` on the command line to an app."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from taskloom.app.app import App, app_of
from taskloom.app.errors import AppError, LoadError
from taskloom.app.tasks import Task


def load_app(name: str) -> App:
    """The app that ``module:attribute`` names, or one with the task of that name alone; with the module alone, the only
    app in it, else its own tasks.

    The current directory is looked in first.

    Raises:
        LoadError: there is no such module or app; says what there is instead.
        AppError: a task or workflow in it cannot be used as it is written.
    """
    module_name, separator, attribute = name.partition(":")
    if not module_name or (separator and not attribute):
        raise LoadError(f"--app {name}: write module:app, for example shop.tasks:app")
    module = _module(module_name, name)
    app = _attribute(module, attribute, name) if attribute else _only_app(module, name)
    if not app.tasks and not app.workflows:
        raise LoadError(f"--app {name}: {app.name} has neither tasks nor workflows; does it import their modules?")
    app.check()
    return app


def load_apps(names: Iterable[str]) -> list[App]:
    """
    Raises:
        AppError: as ``load_app``, or two apps have a task of the same kind.
    """
    apps: list[App] = []
    for name in names:
        app = load_app(name)
        for kind in app.tasks:
            if any(kind in other.tasks and other is not app for other in apps):
                raise AppError(f"--app {name}: another app has the task {kind} too")
        apps.append(app)
    return apps


def _module(module_name: str, name: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            places = os.pathsep.join(sys.path[:1])
            raise LoadError(f"--app {name}: there is no module {error.name!r} here ({places}) or installed") from error
        raise LoadError(f"--app {name}: {_where(error)} needs the module {error.name!r}, which is missing") from error
    except AppError as error:
        raise type(error)(f"--app {name}: {_where(error)}: {error}") from error
    except Exception as error:
        raise LoadError(f"--app {name}: {_where(error)}: {type(error).__name__}: {error}") from error


def _where(error: BaseException) -> str:
    """File and line of the innermost frame that is the user's."""
    own = Path(__file__).parent
    frames = [it for it in traceback.extract_tb(error.__traceback__) if "importlib" not in it.filename]
    frames = [it for it in frames if Path(it.filename).parent != own] or frames
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "the import"


def _attribute(module: ModuleType, attribute: str, name: str) -> App:
    try:
        found: Any = reduce(getattr, attribute.split("."), module)
    except AttributeError:
        apps = [f"{module.__name__}:{it}" for it, value in vars(module).items() if isinstance(value, App)]
        instead = f"it has {', '.join(apps)}" if apps else "it has no App"
        raise LoadError(f"--app {name}: {module.__name__} has no {attribute!r}; {instead}") from None
    if isinstance(found, App):
        return found
    if isinstance(found, Task):
        alone = App(module.__name__)
        alone.add_task(found)
        return alone
    raise LoadError(f"--app {name}: {attribute} is a {type(found).__name__}, not a taskloom.App or task")


def _only_app(module: ModuleType, name: str) -> App:
    apps = {it: value for it, value in vars(module).items() if isinstance(value, App)}
    different = {id(app) for app in apps.values()}
    if len(different) > 1:
        choices = ", ".join(f"{name}:{it}" for it in apps)
        raise LoadError(f"--app {name}: the module has several apps; choose one: {choices}")
    return next(iter(apps.values())) if apps else app_of(module)
