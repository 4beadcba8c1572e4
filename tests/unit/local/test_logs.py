from pathlib import Path

from taskloom.local.logs import rotate


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"a" * 100)
    assert not rotate(log, 100)
    assert log.read_bytes() == b"a" * 100


def test_a_missing_log_is_no_error(tmp_path: Path) -> None:
    assert not rotate(tmp_path / "none.log", 1)


def test_a_writer_that_has_the_log_open_writes_on_at_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old " * 100)
        assert rotate(log, 100)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert Path(f"{log}.1").read_bytes() == b"old " * 100


def test_two_old_logs_are_kept_and_no_more(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for text in (b"1", b"2", b"3", b"4"):
        log.write_bytes(text * 10)
        assert rotate(log, 5)
    assert Path(f"{log}.1").read_bytes() == b"4" * 10
    assert Path(f"{log}.2").read_bytes() == b"3" * 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2", "x.warnings.log"]


def test_warnings_and_errors_outlive_the_rotated_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    trouble = b'{"event":"a","level":"warning"}\n2026-11-21T12:00:00 ERROR Broker bad\n{"level":"error","event":"b"}\n'
    fine = b'2026 INFO all well\n{"event":"fine","level":"info"}\n' * 10
    log.write_bytes(fine + trouble + fine)
    for _ in range(4):
        assert rotate(log, 400)
        log.write_bytes(fine)
    assert (tmp_path / "x.warnings.log").read_bytes() == trouble
