"""The signature of a task's or workflow's function: arguments from JSON and to JSON, its result, and their schema."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, get_args, get_type_hints

from taskloom.app.context import SyncContext
from taskloom.app.errors import AppError, Mismatch
from taskloom.app.types import Codec, codec_of, schema_of
from taskloom.kinds.api import Context

ROOT: Final = "input"
_PLAIN: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Signature:
    """Looked at when first needed, so that types may be declared after the function."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name
        self._signature = inspect.signature(function)
        for parameter in self._signature.parameters.values():
            if parameter.kind not in _PLAIN:
                raise AppError(f"{name}: {parameter} is not possible here: arguments travel by name, each on its own")

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function, include_extras=True)
        except (NameError, TypeError) as error:
            raise AppError(f"{self.name}: its annotations cannot be read: {error}") from error

    @cached_property
    def context(self) -> tuple[str, type] | None:
        """Name and type of the parameter that gets the attempt, if there is one.

        Raises:
            AppError: there are two, or it is of the kind that this function cannot use.
        """
        found = [(name, kind) for name, kind in self._hints.items() if name != "return" and _is_context(kind)]
        if len(found) > 1:
            raise AppError(f"{self.name}: {found[0][0]} and {found[1][0]} are both a context; one is enough")
        return found[0] if found else None

    @cached_property
    def codecs(self) -> dict[str, Codec]:
        """By the name of the argument, the context left out.

        Raises:
            AppError: a type cannot be checked.
        """
        left_out = self.context[0] if self.context else None
        return {
            name: codec_of(self._hints.get(name, Any), f"{self.name}({name})")
            for name in self._signature.parameters
            if name != left_out
        }

    @cached_property
    def result(self) -> Codec:
        return codec_of(self._hints.get("return", Any), f"{self.name} -> …")

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments as an object.

        Raises:
            AppError: a type has none.
        """
        try:
            return schema_of(self.codecs, self.required)
        except AppError as error:
            raise AppError(f"{self.name}: {error}") from error

    @property
    def required(self) -> list[str]:
        parameters = self._signature.parameters
        return [name for name in self.codecs if parameters[name].default is inspect.Parameter.empty]

    @property
    def declares_result(self) -> bool:
        return "return" in self._hints

    @property
    def returns_nothing(self) -> bool:
        return self._hints.get("return", Any) in (None, type(None))

    def defaults(self) -> dict[str, Any]:
        """JSON data of the arguments that may be left out."""
        parameters = self._signature.parameters
        return {
            name: codec.dump(parameters[name].default, f"{self.name}({name})")
            for name, codec in self.codecs.items()
            if parameters[name].default is not inspect.Parameter.empty
        }

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name, as they are; defaults and the context left out.

        Raises:
            TypeError: as Python would for such a call.
        """
        left_out = self.context[0] if self.context else None
        parameters = [it for it in self._signature.parameters.values() if it.name != left_out]
        try:
            return dict(self._signature.replace(parameters=parameters).bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None

    def dump(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """JSON data of arguments.

        Raises:
            Mismatch: one is not of its declared type.
        """
        return {name: self.codecs[name].dump(value, name) for name, value in arguments.items()}

    def load(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Typed arguments from JSON data.

        Raises:
            Mismatch: one is missing, unknown or not of its declared type; the paths begin with ``input``.
        """
        known = ", ".join(self.codecs) or "no arguments"
        faults = [(f"{ROOT}.{it}", f"unknown argument; {self.name} takes {known}") for it in data.keys() - self.codecs]
        faults += [(f"{ROOT}.{name}", "missing argument") for name in self.required if name not in data]
        loaded = {}
        for name, value in data.items():
            if name in self.codecs:
                try:
                    loaded[name] = self.codecs[name].load(value, f"{ROOT}.{name}")
                except Mismatch as mismatch:
                    faults += mismatch.faults
        if faults:
            raise Mismatch(sorted(faults))
        return loaded


def _is_context(kind: Any) -> bool:
    return any(each in (Context, SyncContext) for each in (kind, *get_args(kind)))
