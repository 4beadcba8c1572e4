"""Values of declared types from JSON and to JSON: pydantic's types and dataclasses by pydantic, Structs by msgspec."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, get_args

import msgspec
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from taskloom.app.errors import AppError, Mismatch

_REF: Final = "#/$defs/{model}"
_STRUCT_REF: Final = "#/$defs/{name}"


class Codec(Protocol):
    """Of one declared type."""

    def load(self, value: Any, path: str) -> Any:
        """The typed value that JSON data, or a typed value, stands for.

        Raises:
            Mismatch: it does not fit; the faults' paths begin with ``path``.
        """
        ...

    def dump(self, value: Any, path: str) -> Any:
        """JSON data of a value, checked against the type.

        Raises:
            Mismatch: it does not fit.
        """
        ...


class PydanticCodec:
    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self.adapter = adapter

    def load(self, value: Any, path: str) -> Any:
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            raise Mismatch([(path + _dotted(it["loc"]), str(it["msg"])) for it in error.errors()]) from error
        except RecursionError as error:
            raise Mismatch([(path, "nests too deep")]) from error

    def dump(self, value: Any, path: str) -> Any:
        # By way of JSON: pydantic takes an instance of the right class as it is, whatever its fields hold.
        return self._plain(self.load(self._plain(value, path), path), path)

    def _plain(self, value: Any, path: str) -> Any:
        try:
            return self.adapter.dump_python(value, mode="json", warnings=False, fallback=msgspec.to_builtins)
        except (PydanticSerializationError, TypeError, ValueError) as error:
            raise Mismatch([(path, f"is not JSON: {error}")]) from error


class StructCodec:
    def __init__(self, declared: Any) -> None:
        self.declared = declared

    def load(self, value: Any, path: str) -> Any:
        try:
            return msgspec.convert(self._plain(value, path), self.declared)
        except msgspec.ValidationError as error:
            raise Mismatch([_struct_fault(error, path)]) from error
        except RecursionError as error:
            raise Mismatch([(path, "nests too deep")]) from error

    def dump(self, value: Any, path: str) -> Any:
        return self._plain(self.load(value, path), path)

    @staticmethod
    def _plain(value: Any, path: str) -> Any:
        try:
            return msgspec.to_builtins(value, str_keys=True)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise Mismatch([(path, f"is not JSON: {error}")]) from error


def codec_of(declared: Any, where: str) -> Codec:
    """
    Raises:
        AppError: values of this type cannot be checked.
    """
    if _has_struct(declared):
        return StructCodec(declared)
    try:
        return PydanticCodec(TypeAdapter(declared))
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError) as error:
        reason = str(error).splitlines()[0]
        raise AppError(f"{where}: values of {declared!r} cannot be checked: {reason}") from error


def schema_of(codecs: Mapping[str, Codec], required: Sequence[str]) -> dict[str, Any]:
    """JSON Schema of an object with these properties and no others.

    Raises:
        AppError: a type has no JSON Schema.
    """
    try:
        properties, shared = _schemas(codecs)
    except (PydanticUserError, TypeError) as error:
        raise AppError(f"no JSON Schema: {str(error).splitlines()[0]}") from error
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return schema | ({"$defs": shared} if shared else {})


def _schemas(codecs: Mapping[str, Codec]) -> tuple[dict[str, Any], dict[str, Any]]:
    by_pydantic = [
        (name, "validation", codec.adapter) for name, codec in codecs.items() if isinstance(codec, PydanticCodec)
    ]
    found, top = TypeAdapter.json_schemas(by_pydantic, ref_template=_REF)  # type: ignore[arg-type]
    shared = dict(top.get("$defs", {}))
    by_msgspec = {name: codec.declared for name, codec in codecs.items() if isinstance(codec, StructCodec)}
    own, components = msgspec.json.schema_components(list(by_msgspec.values()), ref_template=_STRUCT_REF)
    if double := shared.keys() & components.keys():
        raise TypeError(f"two types are called {sorted(double)[0]}")
    properties = {name: found[name, "validation"] for name, _mode, _adapter in by_pydantic}
    properties |= dict(zip(by_msgspec, own, strict=True))
    return {name: properties[name] for name in codecs}, shared | components


def _has_struct(declared: Any) -> bool:
    if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
        return True
    return any(_has_struct(part) for part in get_args(declared))


def _dotted(place: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)


def _struct_fault(error: msgspec.ValidationError, path: str) -> tuple[str, str]:
    message, _, at = str(error).partition(" - at `")
    return path + at.rstrip("`").removeprefix("$"), message
