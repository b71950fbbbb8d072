from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tflite import files
from tflite.files import replacing, write_text


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".json"
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_files_are_readable_by_others_as_usual(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    (tmp_path / "faces.json").touch(mode=0o600)
    write_text(tmp_path / "faces.json", "x")
    assert stat.S_IMODE((tmp_path / "faces.json").stat().st_mode) == 0o600


def test_what_killed_commands_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours alone, and not that of a command which is still at work."""
    names = (".a.abcd_123.part.json", ".mine.json", ".a.abcd_123.json", "a.abcd_123.part.json", ".b.abcd_123.part")
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / ".young.abcd_123.part").touch()
    monkeypatch.setattr(files, "_cleaned", set())
    with replacing(tmp_path / "slow.json") as alive:
        alive.write_text("slow")
        os.utime(alive, (1, 1))
        monkeypatch.setattr(files, "_cleaned", set())
        write_text(tmp_path / "quick.json", "quick")
        assert alive.exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[1:4], ".young.abcd_123.part", "slow.json", "quick.json"}


def test_the_disk_holds_a_file_before_its_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace

    def record(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def rename(path: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "replace", rename)
    write_text(tmp_path / "a", "x")
    assert calls == ["file", "rename", "folder"]
    with replacing(tmp_path / "b.png", durable=False) as temporary:  # one picture of thousands
        temporary.write_text("x")
    assert calls[3:] == ["rename"]


def test_the_disk_holds_the_names_of_new_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", synced.append)
    write_text(tmp_path / "a" / "b" / "c.json", "x")
    assert synced[:2] == [tmp_path, tmp_path / "a"] and synced[-1] == tmp_path / "a" / "b"


@pytest.mark.parametrize(("number", "written"), [(errno.EIO, False), (errno.ENOSPC, False), (errno.EINVAL, True)])
def test_a_disk_that_does_not_take_a_file_is_an_error(
    number: int, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot sync at all, files are written all the same."""
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if written:
        write_text(path, "new")
    else:
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            write_text(path, "new")
        assert caught.value.filename == str(path)
    assert path.read_text() == ("new" if written else "old")
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a.json") as temporary:
        raise OSError(28, "No space left on device", str(temporary))
    assert (caught.value.filename, caught.value.strerror) == (str(tmp_path / "a.json"), "No space left on device")
