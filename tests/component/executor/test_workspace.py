"""Files of a command: put in before, collected after, and never through a link."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.executor.workspace import Workspace, directory
from taskloom.filestore import FileStore, key_of_artifact, key_of_file
from taskloom.kinds import InvalidInput, TaskError, validate
from taskloom.kinds.files import InputFile

CTX: Any = SimpleNamespace(tenant_id="acme", task_id="t", attempt=3)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(f"file://{tmp_path}/store")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


async def test_files_are_put_in_from_text_bytes_and_uploads(store: FileStore, root: Path) -> None:
    await store.put(key_of_file("acme", "big"), b"b" * 3_000_000)
    space = Workspace(root, store, None, 10**7)
    files = [InputFile("a", text="ü"), InputFile("in/deep/b", data=b"\x00"), InputFile("c", file="big")]
    await space.put("acme", files)
    assert (root / "a").read_text() == "ü"
    assert (root / "in/deep/b").read_bytes() == b"\x00"
    assert (root / "c").stat().st_size == 3_000_000
    with pytest.raises(TaskError, match="PUT /api/v1/files") as missing:
        await space.put("other", [InputFile("c", file="big")])
    assert (missing.value.type, missing.value.retryable) == ("file_missing", False)


async def test_links_are_followed_neither_in_nor_out(store: FileStore, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (root / "out").symlink_to(tmp_path, target_is_directory=True)
    (root / "link").symlink_to(secret)
    space = Workspace(root, store, None, 10**7)
    for path in ("out/new", "link", "../new"):
        with pytest.raises(TaskError) as refused:
            await space.put("acme", [InputFile(path, text="x")])
        assert refused.value.type == "bad_file"
    assert secret.read_text() == "secret"
    assert await space.collect(CTX, ["**"]) == []


async def test_what_fits_is_kept_under_its_attempt(store: FileStore, root: Path) -> None:
    (root / "dist").mkdir()
    (root / "dist/a.whl").write_bytes(b"wheel")
    (root / "note").write_text("no")
    space = Workspace(root, store, None, 10**7)
    assert await space.collect(CTX, ["dist/*.whl"]) == [{"path": "dist/a.whl", "size_bytes": 5}]
    size, _ = await store.read(key_of_artifact("acme", "t", 3, "dist/a.whl"))
    assert size == 5


async def test_what_is_too_large_or_too_much_is_refused(store: FileStore, root: Path) -> None:
    (root / "large").write_bytes(b"x" * 11)
    with pytest.raises(TaskError, match="TASKLOOM_MAX_FILE_MB") as refused:
        await Workspace(root, store, None, 10).collect(CTX, ["*"])
    assert (refused.value.type, refused.value.retryable) == ("artifact_too_large", False)
    for number in range(1001):
        (root / f"{number}.txt").touch()
    with pytest.raises(TaskError, match="archive"):
        await Workspace(root, store, None, 10).collect(CTX, ["*.txt"])


async def test_without_a_store_files_are_refused_and_text_is_not(root: Path) -> None:
    space = Workspace(root, None, None, 10)
    await space.put("acme", [InputFile("a", text="x")])
    with pytest.raises(TaskError, match="TASKLOOM_FILES_URL"):
        await space.collect(CTX, ["*"])


async def test_an_attempts_own_directory_goes_with_it() -> None:
    async with directory(None, None) as made:
        (made / "x").write_text("")
        assert made.is_dir()
    assert not made.exists()
    async with directory("/tmp", None) as given:
        assert given == Path("/tmp")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_files_belong_to_the_user_that_the_command_runs_as(store: FileStore) -> None:
    async with directory(None, (65534, 65534)) as made:
        await Workspace(made, store, (65534, 65534), 10).put("acme", [InputFile("in/a", text="x")])
        assert {(each.stat().st_uid, each.stat().st_gid) for each in (made, made / "in", made / "in/a")} == {
            (65534, 65534)
        }


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"artifacts": ["../x"]}, "input.artifacts[0]"),
        ({"artifacts": ["/etc/*"]}, "input.artifacts[0]"),
        ({"files": [{"path": "a/../../b", "text": ""}]}, "input.files[0].path"),
        ({"files": [{"path": ".", "text": ""}]}, "input.files[0].path"),
        ({"files": [{"path": "a"}]}, "input.files[0]"),
        ({"files": [{"path": "a", "text": "x", "file": "y"}]}, "input.files[0]"),
    ],
)
def test_paths_that_lead_out_are_refused_before_they_are_queued(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate("shell", {"cmd": "true", **given})
    assert refused.value.field == field
