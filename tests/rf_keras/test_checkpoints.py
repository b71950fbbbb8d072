"""Checkpoints: the newest intact one is found whatever happened to the others, and nothing is lost by looking."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rf_keras import checkpoints
from rf_keras.checkpoints import CheckpointError, Checkpoints
from rf_keras.run_dir import METRICS, RunError, refuse_without_checkpoint
from tflite import files


class State:
    """Some weights and a counter, with their checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.weights, self.step = tf.Variable(tf.zeros(1000)), tf.Variable(0, dtype=tf.int64)
        self.checkpoints = Checkpoints(tf.train.Checkpoint(weights=self.weights, step=self.step), folder)

    def go_to(self, step: int) -> None:
        self.weights.assign(tf.fill(1000, float(step)))
        self.step.assign(step)
        self.checkpoints.save(step)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run that saved itself at steps 10, 20 and 30."""
    state = State(tmp_path / "checkpoints")
    for step in (10, 20, 30):
        state.go_to(step)
    return tmp_path / "checkpoints"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_are_kept_with_their_digests(folder: Path) -> None:
    parts = ("data-00000-of-00001", "index", "sha256")
    assert set(contents(folder)) == {"checkpoint", *(f"ckpt-{step}.{part}" for step in (20, 30) for part in parts)}
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "ckpt-30")
    state = State(folder)
    assert state.checkpoints.restore() == 30 == int(state.step)
    np.testing.assert_array_equal(state.weights, np.full(1000, 30))


def test_the_disk_holds_one_before_older_ones_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, synced = State(folder), []

    def record(path: Path) -> None:
        synced.append((path.name, (folder / "ckpt-20.index").exists()))

    monkeypatch.setattr(checkpoints, "sync", record)
    monkeypatch.setattr(files, "sync", record)
    state.go_to(40)
    names = [name for name, older_is_there in synced if older_is_there]
    assert names[:2] == ["ckpt-40.data-00000-of-00001", "ckpt-40.index"]
    assert names[2].endswith(".part.sha256") and names[3] == folder.name
    assert not (folder / "ckpt-20.index").exists()


def test_a_full_disk_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    def full(*arguments: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(CheckpointError, match=r"ckpt-40: cannot write the checkpoint \(No space left on device\)"):
        State(folder).go_to(40)
    assert contents(folder) == before


def test_one_of_the_same_step_is_not_written_again(folder: Path) -> None:
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    state = State(folder)
    state.checkpoints.restore()
    state.go_to(30)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before


def test_later_ones_do_not_count(folder: Path) -> None:
    State(folder).go_to(25)
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "ckpt-25")
    assert State(folder).checkpoints.restore() == 30 and (folder / "ckpt-20.index").exists()


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def swap(folder: Path) -> None:
    """The files of step 30 are those of step 20, intact, as a disk leaves them that lost what was written last."""
    for name in (DATA, INDEX):
        shutil.copyfile(folder / name.replace("30", "20"), folder / name)


DATA, INDEX, DIGESTS = "ckpt-30.data-00000-of-00001", "ckpt-30.index", "ckpt-30.sha256"
DAMAGES: dict[str, Callable[[Path], None]] = {
    "data cut": lambda folder: cut(folder / DATA),
    "data gone": lambda folder: (folder / DATA).unlink(),
    "data empty": lambda folder: (folder / DATA).write_bytes(b"") and None,
    "index cut": lambda folder: cut(folder / INDEX),
    "index empty": lambda folder: (folder / INDEX).write_bytes(b"") and None,
    "digests empty, data cut": lambda folder: ((folder / DIGESTS).write_text(""), cut(folder / DATA))[1],
    "another step's": lambda folder: swap(folder),
    "another step's, digests empty": lambda folder: ((folder / DIGESTS).write_text(""), swap(folder))[1],
    "of an earlier version, data cut": lambda folder: ((folder / DIGESTS).unlink(), cut(folder / DATA))[1],
    "of an earlier version, bit flipped": lambda folder: ((folder / DIGESTS).unlink(), flip(folder / DATA, 0.5))[1],
}
for share in (0.0, 0.3, 0.6, 1.0):
    for name in (DATA, INDEX):
        DAMAGES[f"{name}, bit flipped at {share}"] = lambda folder, name=name, share=share: flip(folder / name, share)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over(damage: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DAMAGES[damage](folder)
    state = State(folder)
    assert state.checkpoints.restore() == 20
    np.testing.assert_array_equal(state.weights, np.full(1000, 20))
    (line,) = capsys.readouterr().err.splitlines()
    assert "ckpt-30: damaged (" in line and line.endswith("going on from ckpt-20") and len(line) < 600
    assert ("ckpt-30.sha256 lists 0 files, found 2" in line) == ("digests empty" in damage)
    assert (folder / "ckpt-30.index.damaged").exists()
    state.go_to(30)  # again, by the same steps
    assert State(folder).checkpoints.restore() == 30
    for step in (40, 50):
        state.go_to(step)
    assert not list(folder.glob("ckpt-30*")), "what was set aside goes with those of its time"


@pytest.mark.parametrize("text", [None, "", "model_checkpoint_path: 'ckpt-99'\n", "\0\0"])
def test_tensorflows_list_is_not_needed(text: str | None, folder: Path) -> None:
    if text is None:
        (folder / "checkpoint").unlink()
    else:
        (folder / "checkpoint").write_text(text)
    state = State(folder)
    assert state.checkpoints.restore() == 30
    state.go_to(40)
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "ckpt-40")
    assert not (folder / "ckpt-20.index").exists()


def test_without_an_intact_one_nothing_is_changed(folder: Path) -> None:
    for step in (20, 30):
        cut(folder / f"ckpt-{step}.index")
    before = contents(folder)
    state = State(folder)
    with pytest.raises(CheckpointError, match=r"no checkpoint can be used \(ckpt-30: .*; ckpt-20: ") as caught:
        state.checkpoints.restore()
    assert "\n" not in str(caught.value) and contents(folder) == before


def test_what_kills_left_is_removed(folder: Path) -> None:
    (folder / "ckpt-15_temp").mkdir()
    (folder / "ckpt-15_temp" / "part-00000-of-00001.data-00000-of-00001").touch()
    for name in ("ckpt-5.data-00000-of-00001", "ckpt-5.index.tempstate123", "ckpt-5.sha256", "notes.txt"):
        (folder / name).touch()
    state = State(folder)
    state.checkpoints.restore()
    state.go_to(40)
    names = set(contents(folder))
    assert "notes.txt" in names and not [name for name in names if "-5" in name or "-15" in name]


@pytest.mark.parametrize(
    ("rows", "last", "refused"), [(0, False, False), (1, False, False), (2, False, True), (0, True, True)]
)
def test_a_run_whose_checkpoints_are_gone_does_not_start_again(
    rows: int, last: bool, refused: bool, tmp_path: Path
) -> None:
    (tmp_path / METRICS).write_text("step,loss\n0,\n" + "3,1\n" * rows)  # step 0: a fine-tuning's start
    if last:
        (tmp_path / "last.keras").touch()
    assert State(tmp_path / "checkpoints").checkpoints.restore() is None
    if refused:
        with pytest.raises(RunError, match="no checkpoint is left"):
            refuse_without_checkpoint(tmp_path)
    else:
        refuse_without_checkpoint(tmp_path)
