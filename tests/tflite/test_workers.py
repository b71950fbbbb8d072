"""Several processes: the same results in the same order, and a process that dies loses one picture."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.detect import DetectOptions, detect_files
from tflite.images import ImageError, read_image, write_image
from tflite.outputs import UsageError
from tflite.workers import Done, Task, run_tasks


@dataclass(frozen=True)
class Job:
    """Answers with the number in the name; "die" kills its process, "bad" is an error, "slow" takes a while."""

    refuse: bool = False

    def start(self) -> Callable[[Task], Done]:
        if self.refuse:
            raise ValueError("no such model")

        def work(task: Task) -> Done:
            kind = task.path.name
            if "die" in kind:
                os.kill(os.getpid(), signal.SIGKILL)
            if "slow" in kind:
                time.sleep(0.3)
            if "bad" in kind:
                return Done(error=f"{kind}: bad")
            return Done((int(task.path.parent.name), 0))

        return work


def tasks(*kinds: str) -> list[Task]:
    return [Task(Path(str(i)) / kind, Path(kind), None) for i, kind in enumerate(kinds)]


def test_order_is_kept_and_one_loses_only_itself() -> None:
    given = tasks("slow", "a", "bad", "die", *["a"] * 20, "slow", "die", "a")
    results = list(run_tasks(given, Job(), 2))
    assert len(results) == len(given)
    for i, (task, done) in enumerate(zip(given, results, strict=True)):
        if task.path.name in ("a", "slow"):
            assert done.size[0] == i and done.error is None
        else:
            died = f"{i}/die: the worker that read it ended with SIGKILL"
            assert done.error == ("bad: bad" if task.path.name == "bad" else died)


def test_a_job_that_cannot_start_is_one_error_and_so_is_a_process_that_always_dies() -> None:
    with pytest.raises(ImageError, match=r"^no such model$"):
        list(run_tasks(tasks("a", "a"), Job(refuse=True), 1))
    with pytest.raises(ImageError, match="one worker after the other ended with SIGKILL"):
        list(run_tasks(tasks(*["die"] * 9), Job(), 1))
    assert list(run_tasks([], Job(), 2)) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for i in range(7):
        write_image(tmp_path / "in" / f"{i}.png", photo(96, 96, ((8 * i, 30, 32),)))
    (tmp_path / "in" / "3b.png").write_bytes(b"no picture")
    return tmp_path


def test_the_command_by_workers_gives_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, workers, threads in (("one", 1, 1), ("two", 2, None)):
        options = DetectOptions(
            ("in",), "fast_320", json=f"{name}.json", faces=f"{name}.csv", output=name, crops=f"{name}_crops",
            workers=workers, num_threads=threads, score_threshold=0.05,
        )  # fmt: skip
        assert detect_files(options) == 1
        assert "in/3b.png: cannot decode" in capsys.readouterr().err
    assert (folder / "one.json").read_bytes() == (folder / "two.json").read_bytes()
    assert (folder / "one.csv").read_bytes() == (folder / "two.csv").read_bytes()
    found = json.loads((folder / "one.json").read_text())
    assert list(found) == [f"in/{i}.png" for i in range(7)] and any(found.values())
    for one, two in (("one", "two"), ("one_crops", "two_crops")):
        first, second = ({path.name: path.read_bytes() for path in (folder / name).iterdir()} for name in (one, two))
        assert first == second and first


def test_shards_split_the_pictures(folder: Path, stub: None) -> None:
    parts = []
    for part in (1, 2, 3):
        detect_files(DetectOptions(("in",), json=f"{part}.json", shard=(part, 3)))
        parts.append(list(json.loads((folder / f"{part}.json").read_text())))
    assert sorted(name for names in parts for name in names) == [f"in/{i}.png" for i in range(7)]
    assert parts[0] == ["in/0.png", "in/3.png", "in/5.png"]
    assert detect_files(DetectOptions(("in/0.png",), json="none.json", shard=(2, 2))) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_threads": 2}, "one thread each"),
        ({"track": True}, "--track goes from picture to picture"),
        ({"show": True}, "--show goes from picture to picture"),
        ({"images": ("-",)}, "expected no - for stdin"),
        ({"images": ("0",), "workers": 1, "shard": (1, 2)}, "--shard splits pictures"),
    ],
)
def test_what_does_not_go_with_workers(options: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=message):
        detect_files(DetectOptions(**{"images": ("in",), "workers": 2, **options}))  # type: ignore[arg-type]


def test_what_is_small_or_surplus_is_left_out_and_quiet_is_quiet(
    folder: Path,
    stub: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert detect_files(DetectOptions(("in/0.png",), json="a.json", min_size=32, quiet=True)) == 0
    assert capsys.readouterr() == ("", "")
    assert len(json.loads((folder / "a.json").read_text())["in/0.png"]) == 1
    assert detect_files(DetectOptions(("in/0.png", "in/3b.png"), json="b.json", min_size=33, quiet=True)) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.splitlines()[0] == "1 input failed:"
    assert json.loads((folder / "b.json").read_text()) == {"in/0.png": []}


def test_a_missed_face_stays_blurred(folder: Path, stub: None) -> None:
    """Frames 4 and 5 have no face for the detector: where it was, and is a little later, is hidden all the same."""
    names = []
    for i in range(8):
        image = np.random.default_rng(i).integers(0, 150, (96, 96, 3), dtype=np.uint8)
        if i not in (4, 5):
            image[20:60, 20 + i : 60 + i] = 230
        names.append(f"f{i}.png")
        write_image(folder / names[-1], image)
    assert detect_files(DetectOptions(tuple(names), blur=True, track=True, hold=1, output="o", json="t.json")) == 0
    changed = [(read_image(folder / name) != read_image(folder / "o" / name)).any() for name in names]
    assert changed == [i != 5 for i in range(8)]
    tracks = [[face["track"] for face in faces] for faces in json.loads((folder / "t.json").read_text()).values()]
    assert tracks == [[1]] * 4 + [[], []] + [[1]] * 2
