"""Kills commands in the middle of their work, again and again: no file may be lost, and each must go on to its end.

    python -m tests.kills            30 kills, and 10 resumes with the newest checkpoint damaged (minutes)
    python -m tests.kills --short    a few of the quick commands, as the tests run it

Training, quantization-aware tuning, conversion and detection run in forked processes, so that TensorFlow is imported
once. Most kills come at an event that concerns a file (open for writing, rename, remove, make a folder), the moments at
which something can be lost; the others at any time.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import rf_keras  # noqa: F401  # TensorFlow's settings, before it is imported
from quantization import convert, qat, qat_loop, qat_steps  # noqa: F401  # imported once, for all forks
from rf_keras import train, train_loop  # noqa: F401
from rf_keras.archive import WEIGHTS_MEMBER, WeightsArchive
from rf_keras.config import ModelConfig
from rf_keras.model import build_model
from rf_keras.model_file import save_model
from rf_keras.synthetic import make_dataset
from tests.durability import Disk
from tflite import detect, files
from tflite.command import parse
from tflite.images import read_image
from tflite.spec import read_spec

FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir")
LONGEST = 1800  # seconds that one command may take
FULL = {"train": 9, "qat": 7, "convert": 6, "detect": 8}  # kills of each command
SHORT = {"convert": 1, "detect": 3}  # the tests of the others kill them, too
DAMAGED = {"train": 5, "qat": 5}  # resumes of each with the newest checkpoint damaged
NOT_SYNCED = ("errors.txt", "run/tensorboard", "drawn/", "crops/", "f.jsonl")  # pictures and lines by the thousand
NETWORK = ModelConfig(backbone="plain", width=0.5, blocks=(0, 0), neck_channels=8, ssh_channels=8)


class Lost(AssertionError):
    """Something that must not happen after a kill."""


class Job:
    """A command with its folder.

    Args:
        name: of the command.
        run: does the work in a folder, from where it was left.
        check: looks at what is there; `Lost` where it is not whole.
    """

    def __init__(self, name: str, run: Callable[[Path], object], check: Callable[[Path], None]) -> None:
        self.name, self._run, self.check = name, run, check
        self.events, self.seconds = 0, 0.0

    def start(self, folder: Path, at_event: int = 0, after: float = 0.0, durable: bool = False) -> bool:
        """Run it in a forked process; whether it came to its end.

        Args:
            at_event: number of the file event at which the process kills itself; 0: none.
            after: seconds after which it is killed; 0: never.
            durable: see that the disk holds all its files at the end.
        """
        counted, report = os.pipe()
        child = os.fork()
        if child == 0:
            self._in_child(folder, at_event, report, durable)
        os.close(report)
        begin, killed = time.monotonic(), False
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - begin > (after or LONGEST):
                os.kill(child, signal.SIGKILL)
                killed = True
                os.waitpid(child, 0)
                status = 0
                break
            time.sleep(0.01)
        with os.fdopen(counted, "rb") as pipe:
            events = int(pipe.read() or 0)
        if killed or os.WIFSIGNALED(status):
            if killed and not after:
                raise Lost(f"{self.name}: not done after {LONGEST} seconds")
            return False
        if os.WEXITSTATUS(status):
            raise Lost(f"{self.name}: failed with {(folder / 'errors.txt').read_text()[-2000:]}")
        self.events, self.seconds = events, time.monotonic() - begin
        return True

    def _in_child(self, folder: Path, at_event: int, report: int, durable: bool) -> None:
        count = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes or event in FILE_EVENTS) and str(arguments[0]).startswith(str(folder)):
                count += 1
                if count == at_event:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            output = os.open(folder / "errors.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            files.YOUNG = 0.0  # what an earlier kill left is not a minute old yet
            sys.addaudithook(watch)
            with Disk() as disk:
                self._run(folder)
            if durable and (lost := [name for name in disk.lost(folder) if not name.startswith(NOT_SYNCED)]):
                raise Lost(f"{', '.join(lost)}: a power cut could take them")
            code = 0
            os.write(report, str(count).encode())
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        os._exit(code)


def whole(folder: Path) -> None:
    """Every file of a command is complete.

    Raises:
        Lost: one is not.
    """
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if path.suffix == ".keras":
                with WeightsArchive(path) as archive:
                    archive.open_arrays(10_000_000)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".csv":
                list(csv.DictReader(path.read_text().splitlines()))
            elif path.suffix == ".tflite":
                read_spec(path)
            elif path.suffix == ".jsonl":
                [json.loads(line) for line in path.read_text().splitlines()[:-1]]
            elif path.suffix in (".png", ".jpg"):
                read_image(path)
        except Exception as error:
            raise Lost(f"{path}: {error}") from error


def intact_steps(run_dir: Path) -> list[int]:
    """Steps of the checkpoints whose bytes are those that were written."""
    found = []
    for listed in (run_dir / "checkpoints").glob("ckpt-*.sha256"):
        lines = [line.split("  ") for line in listed.read_text().splitlines()]
        parts = [(digest, listed.with_name(name)) for digest, name in lines]
        if parts and all(p.exists() and hashlib.sha256(p.read_bytes()).hexdigest() == digest for digest, p in parts):
            found.append(int(listed.stem.removeprefix("ckpt-")))
    return sorted(found)


def arrays(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(WEIGHTS_MEMBER))) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def same_weights(first: Path, second: Path) -> None:
    a, b = arrays(first), arrays(second)
    if a.keys() != b.keys() or not all(np.allclose(a[name], b[name], rtol=1e-3, atol=1e-4) for name in a):
        raise Lost(f"{second}: not the weights of the run that nobody killed")


def make_jobs(base: Path) -> list[Job]:
    """The four commands on tiny data."""
    data = make_dataset(base / "data", 16, seed=5, size=96)
    start = base / "start.keras"
    # The parent itself runs no TensorFlow, whose threads no fork survives.
    Job("start", lambda folder: save_model(build_model(NETWORK), NETWORK, start, {"source": "random"}), whole).start(
        base
    )

    def runs(folder: Path) -> Path:
        return folder / "run"

    def train_once(folder: Path) -> None:
        settings = ["--config=fast", f"--init={start}", "--size=64", "--batch=4", "--epochs=2"]
        settings += ["--augment=light", "--set=val_share=0.25", "--set=checkpoint_steps=2", "--set=val_every=2"]
        settings.append(f"--data_dir={data}")
        new = not (runs(folder) / "config.json").exists()
        train.run(parse(train.Options, [*(settings if new else ["--resume"]), f"--run_dir={runs(folder)}"]))

    def tune_once(folder: Path) -> None:
        settings = [f"--weights={start}", f"--data_dir={data}", "--size=64", "--batch=2", "--steps=4"]
        settings += ["--set=val_every=2", "--set=val_images=2", "--calibration_images=8"]
        new = not (runs(folder) / "config.json").exists()
        qat.run(parse(qat.Options, [*(settings if new else ["--resume"]), f"--run_dir={runs(folder)}"]))

    def convert_once(folder: Path) -> None:
        arguments = ["--fp32", f"--weights={start}", f"--data_dir={data / 'images'}", "--size=64"]
        convert.run(parse(convert.Options, [*arguments, f"--output={folder / 'model.tflite'}"]))

    def detect_once(folder: Path) -> None:
        options = {"output": "drawn", "crops": "crops", "json": "f.json", "jsonl": "f.jsonl"}
        given = {name: str(folder / path) for name, path in options.items()}
        images = tuple(map(str, sorted((data / "images").iterdir())[:5]))
        code = detect.detect_files(detect.DetectOptions(images, "fast_320", **given))
        if code:
            raise Lost(f"detect: exit code {code}")

    return [
        Job("train", train_once, whole),
        Job("qat", tune_once, whole),
        Job("convert", convert_once, whole),
        Job("detect", detect_once, whole),
    ]


def kill_and_go_on(job: Job, folder: Path, unbroken: Path, kills: int, chance: random.Random) -> None:
    """Kill one job `kills` times, then let it end; the result is that of the run that nobody killed."""
    folder.mkdir()
    done = 0
    while done < kills:
        before = {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
        known = intact_steps(folder / "run")
        if chance.random() < 0.75:
            ended = job.start(folder, at_event=chance.randint(1, max(job.events, 1)))
        else:
            ended = job.start(folder, after=chance.uniform(0.05, job.seconds))
        done += not ended
        job.check(folder)
        if known and not intact_steps(folder / "run"):
            raise Lost(f"{job.name}: no intact checkpoint is left of {known}")
        gone = [path for path in before if not path.exists() and "checkpoints" not in path.parts]
        if gone:
            raise Lost(f"{job.name}: {gone} is gone")
        if not ended:
            print(f"{job.name}: kill {done} of {kills}", flush=True)
        elif (folder / "run").exists():  # done before its time: nothing is left to be killed
            shutil.rmtree(folder / "run")
    if not job.start(folder):
        raise Lost(f"{job.name}: did not come to its end")
    compare(job, folder, unbroken)


def compare(job: Job, folder: Path, unbroken: Path) -> None:
    """A job's results are those of the run that nobody killed, and nothing temporary is left.

    Raises:
        Lost: they are not.
    """
    job.check(folder)
    if left := [path for path in folder.rglob("*") if files.LEFTOVER.fullmatch(path.name) or "_temp" in path.name]:
        raise Lost(f"{job.name}: {left} is left")
    if job.name in ("train", "qat"):
        for name in ("last.keras", "best.keras"):
            same_weights(unbroken / "run" / name, folder / "run" / name)
        rows = [(path / "run" / "metrics.csv").read_text().count("\n") for path in (unbroken, folder)]
        if rows[0] != rows[1]:
            raise Lost(f"{job.name}: {rows[1]} lines of metrics, expected {rows[0]}")
        return
    for path in unbroken.rglob("*"):
        other = folder / path.relative_to(unbroken)
        if path.is_file() and path.suffix not in (".txt", ".jsonl") and path.read_bytes() != other.read_bytes():
            raise Lost(f"{other}: differs from the run that nobody killed")


def damage_newest(run_dir: Path, kind: int) -> None:
    """Spoil the newest checkpoint in one of several ways."""
    step = intact_steps(run_dir)[-1]
    index = run_dir / "checkpoints" / f"ckpt-{step}.index"
    (data,) = index.parent.glob(f"ckpt-{step}.data-*")
    content = bytearray((data if kind % 2 else index).read_bytes())
    if kind % 5 == 0:
        content.clear()
    elif kind % 5 == 1:
        del content[-50:]
    else:
        content[kind * 7919 % len(content)] ^= 1 << kind % 8
    (data if kind % 2 else index).write_bytes(content)
    if kind % 5 == 4:
        (index.parent / "checkpoint").unlink(missing_ok=True)


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few kills of the quick commands only")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    kills, damages = (SHORT, {}) if options.short else (FULL, DAMAGED)
    begin, chance = time.monotonic(), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name).resolve()
        for job in make_jobs(base):
            if job.name not in kills:
                continue
            unbroken = base / f"{job.name}_unbroken"
            unbroken.mkdir()
            job.start(unbroken, durable=True)
            print(f"{job.name}: {job.events} file events in {job.seconds:.1f} s", flush=True)
            kill_and_go_on(job, base / f"{job.name}_killed", unbroken, kills[job.name], chance)
            for number in range(damages.get(job.name, 0)):
                folder = base / f"{job.name}_damaged_{number}"
                shutil.copytree(unbroken, folder)
                damage_newest(folder / "run", chance.randint(0, 9999))
                job.start(folder)
                compare(job, folder, unbroken)
                print(f"{job.name}: resumed with the newest checkpoint damaged, {number + 1}", flush=True)
    seconds = time.monotonic() - begin
    print(
        f"{sum(kills.values())} kills and {sum(damages.values())} damaged checkpoints in {seconds:.0f} s: "
        "nothing lost, each went on to its end"
    )


if __name__ == "__main__":
    main()
