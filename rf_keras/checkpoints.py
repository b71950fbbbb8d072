"""Checkpoints of a run: on the disk before older ones go, known by their digests, the newest intact one restored."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from tflite.files import make_folder, sync, write_text
from tflite.messages import note, one_line, printable

FOLDER = "checkpoints"
KEPT = 2
OURS = re.compile(r"ckpt-(\d+)(_temp|\.index(\.tempstate.*)?|\.data-.*|\.sha256)(\.damaged)?")
DISK_ERRORS = (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError, tf.errors.UnknownError)
SET_ASIDE = ".damaged"  # added to the names of files that a resume passed over


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or none of a run can be used; the message is one line."""


class Checkpoints:
    """The newest checkpoints of some state, `ckpt-STEP` each.

    Args:
        state: what they hold.
        folder: where they are written.
        read_from: where a restart finds them; by default `folder`.
    """

    def __init__(self, state: tf.train.Checkpoint, folder: Path, read_from: Path | None = None) -> None:
        self._state, self._folder, self._read_from = state, folder, read_from or folder
        self._latest = -1  # step of the last one written or restored

    def save(self, step: int) -> None:
        """Write one, and remove those before the last `KEPT`.

        Raises:
            CheckpointError, OSError: the disk is full or not writable; the older ones are still there.
        """
        if step == self._latest:  # nothing has changed, and a kill while it is replaced would cost it
            return
        make_folder(self._folder)
        prefix = self._folder / f"ckpt-{step}"
        try:
            self._state.write(str(prefix))
        except DISK_ERRORS as error:
            raise CheckpointError(
                f"{printable(prefix)}: cannot write the checkpoint ({one_line(error)}); older ones are still there"
            ) from error
        parts = sorted(_parts(prefix))
        for path in parts:
            sync(path)
        write_text(prefix.with_name(f"{prefix.name}.sha256"), "".join(f"{_digest(p)}  {p.name}\n" for p in parts))
        self._latest = step
        kept = [number for number in sorted(_steps(self._folder)) if number <= step][-KEPT:]
        # As `tf.train.latest_checkpoint` reads it.
        lines = [
            f'model_checkpoint_path: "ckpt-{kept[-1]}"',
            *(f'all_model_checkpoint_paths: "ckpt-{n}"' for n in kept),
        ]
        write_text(self._folder / "checkpoint", "\n".join(lines) + "\n")
        for path in self._folder.iterdir():
            match = OURS.fullmatch(path.name)
            if match and int(match[1]) < kept[0]:  # also what a killed command left
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def restore(self) -> int | None:
        """Take the state from the newest that is whole; says which ones are not and sets them aside.

        The files themselves are looked for, not TensorFlow's list of them, which may be missing or damaged.

        Returns:
            Its step, None where there is no checkpoint at all.

        Raises:
            CheckpointError: there are some, but none that can be used. Nothing was changed.
        """
        damaged: dict[Path, str] = {}
        for step in sorted(_steps(self._read_from), reverse=True):
            prefix = self._read_from / f"ckpt-{step}"
            reason = self._read(prefix)
            if reason is None:
                self._latest = step
                self._set_aside(damaged, step)
                return step
            damaged[prefix] = reason
        if damaged:
            reasons = "; ".join(f"{prefix.name}: {reason}" for prefix, reason in damaged.items())
            raise CheckpointError(
                f"{printable(self._read_from)}: no checkpoint can be used ({reasons}); nothing was changed, expected "
                "an intact one, or another --run_dir for a new run"
            )
        return None

    def _read(self, prefix: Path) -> str | None:
        """Restore the state; what is wrong with the file, or None."""
        listed = prefix.with_name(f"{prefix.name}.sha256")
        try:
            # TensorFlow checks the arrays alone, not the index that says where they are. Runs of earlier versions have
            # no list.
            if listed.exists():
                lines = [line.partition("  ") for line in listed.read_text().splitlines()]
                digests = {name: digest for digest, _, name in lines}
                parts = {path.name: path for path in _parts(prefix)}
                if digests.keys() != parts.keys():
                    return f"{listed.name} lists {len(digests)} files, found {len(parts)}"
                for name, path in sorted(parts.items()):
                    if _digest(path) != digests[name]:
                        return f"{name} is not as it was written"
            self._state.read(str(prefix)).assert_existing_objects_matched()
        except Exception as error:  # OpError, AssertionError, OSError, ValueError, … by what is damaged
            return one_line(error)
        return None

    def _set_aside(self, damaged: dict[Path, str], step: int) -> None:
        for prefix, reason in damaged.items():
            note(f"{prefix}: damaged ({reason}); going on from ckpt-{step}")
            if self._read_from == self._folder:
                for path in [*_parts(prefix), prefix.with_name(f"{prefix.name}.sha256")]:
                    if path.exists():
                        path.replace(path.with_name(path.name + SET_ASIDE))


def _steps(folder: Path) -> Iterator[int]:
    """Steps of the checkpoints in a folder, complete or not."""
    for path in folder.glob("ckpt-*.index"):
        if match := re.fullmatch(r"ckpt-(\d+)\.index", path.name):
            yield int(match[1])


def _parts(prefix: Path) -> Iterator[Path]:
    """TensorFlow's files of one checkpoint."""
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        if re.fullmatch(r"ckpt-\d+\.(index|data-\d+-of-\d+)", path.name):
            yield path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
