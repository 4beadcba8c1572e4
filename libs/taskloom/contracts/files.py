"""Writing ``contracts/``, and finding what drifted from the code or broke with the last release."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from taskloom.bus.admin import ALL_TOPICS, TOPICS
from taskloom.bus.broker import asyncapi_document
from taskloom.bus.channels import CHANNELS, type_of
from taskloom.contracts.compatible import faults
from taskloom.contracts.schemas import message_schemas, path_of

Json = dict[str, Any]

SCHEMA_FOLDERS: Final = ("commands", "events", "messages", "reports")
_GENERATED: Final = "# Made from the code by `make contracts`; do not edit.\n"


def generate(openapi: Json | None = None) -> dict[str, str]:
    """Content of each file by its path below ``contracts/``; ``openapi`` is the gateway's document."""
    schemas = message_schemas()
    references = {
        type_of(message): {"$ref": f"./{path_of(message)}"} for channel in CHANNELS for message in channel.messages
    }
    files = {path: _json(schema) for path, schema in schemas.items()}
    files["topics.yaml"] = _GENERATED + _yaml(_topics())
    files["asyncapi.yaml"] = _GENERATED + _yaml(asyncapi_document(references))
    if openapi is not None:
        # Litestar keeps a path's handlers in a set: their order changes from run to run.
        files["openapi.json"] = _json(openapi, sort_keys=True)
    return files


def write(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Brings ``directory`` to ``files``; paths that changed. Schemas of messages that are gone are deleted."""
    changed = []
    for path, content in files.items():
        file = directory / path
        if not file.is_file() or file.read_text() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            changed.append(path)
    for path in _left_over(directory, files):
        (directory / path).unlink()
        changed.append(path)
    return sorted(changed)


def drift(directory: Path, files: Mapping[str, str]) -> list[str]:
    """What in ``directory`` is not as the code says, a line each; empty when all is."""
    found = []
    for path, content in files.items():
        file = directory / path
        if not file.is_file():
            found.append(f"{path}: missing")
        elif file.read_text() != content:
            found.append(f"{path}: differs from the code")
    return sorted(found + [f"{path}: no such message in the code" for path in _left_over(directory, files)])


def breaks(directory: Path, files: Mapping[str, str]) -> list[str]:
    """What breaks a user of the last release in ``directory/released/``, a line each; empty without a release."""
    released = last_release(directory)
    if released is None:
        return []
    found = []
    for folder in SCHEMA_FOLDERS:
        for file in sorted((released / folder).glob("*.json")):
            path = f"{folder}/{file.name}"
            if path not in files:
                found.append(f"{path}: message of release {released.name} is gone")
                continue
            old, new = json.loads(file.read_text()), json.loads(files[path])
            found += [f"{path}: {fault} (release {released.name})" for fault in faults(old, new)]
    return found


def release(directory: Path, version: str, files: Mapping[str, str]) -> Path:
    """Keeps the schemas as those of a release, for later ones to be compared with; where they stand."""
    target = directory / "released" / version
    for path, content in files.items():
        if path.partition("/")[0] in SCHEMA_FOLDERS:
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    return target


def last_release(directory: Path) -> Path | None:
    """Folder of the highest version in ``directory/released/``."""
    releases = [folder for folder in (directory / "released").glob("*") if folder.is_dir()]
    return max(releases, key=lambda folder: _version(folder.name), default=None)


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in name.split("."))


def _left_over(directory: Path, files: Mapping[str, str]) -> list[str]:
    there = [
        file.relative_to(directory).as_posix()
        for folder in SCHEMA_FOLDERS
        for file in directory.glob(f"{folder}/*.json")
    ]
    return [path for path in there if path not in files]


def _topics() -> Json:
    return {
        "prefix": "TASKLOOM_TOPIC_PREFIX, default taskloom",
        "partitions": "TASKLOOM_PARTITIONS, default 8, of every topic; partition = crc32(key) % 64 % partitions",
        "every_topic": ALL_TOPICS,
        "topics": [
            {
                "topic": f"taskloom.{channel.name}",
                "key": channel.key,
                "why": channel.why,
                "writers": list(channel.writers),
                "readers": [
                    {"who": reader.who, "group": f"taskloom.{reader.group}"} if reader.group else {"who": reader.who}
                    for reader in channel.readers
                ],
                "configs": TOPICS[channel.kind],
                "messages": [type_of(message) for message in channel.messages],
            }
            for channel in CHANNELS
        ],
    }


def _json(value: Json, *, sort_keys: bool = False) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=sort_keys) + "\n"


def _yaml(value: Json) -> str:
    # Without aliases: the same object in two places is written twice.
    text: str = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return text


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
