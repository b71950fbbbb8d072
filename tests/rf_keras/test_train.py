"""Training end to end on tiny synthetic photos: restart, repeatability, outputs, and settings that cannot work."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rf_keras import train, train_loop
from rf_keras.config import TrainConfig
from rf_keras.evaluation.scoring import evaluate_keras
from rf_keras.input_size import InputSize
from rf_keras.model_file import load_model
from rf_keras.run_dir import METRICS, newest_run, newest_training_run, read_config
from rf_keras.synthetic import make_dataset
from tests.durability import Disk
from tflite.command import parse

# 12 images of 64 px in batches of 4: three steps an epoch, a second each.
SMALL = [
    "--config=fast",
    "--set=blocks=0,0",
    "--size=64",
    "--batch=4",
    "--set=val_share=0.25",
    "--set=warmup_steps=2",
    "--augment=light",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "faces", 16, seed=5, size=96)


def run(*arguments: str) -> dict[str, Any] | None:
    return train.run(parse(train.Options, arguments))


def weights(path: Path) -> list[np.ndarray]:
    return load_model(path)[0].get_weights()


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "unbroken"
    with Disk() as disk:
        figures = run(*SMALL, f"--data_dir={data}", "--epochs=3", f"--run_dir={run_dir}")
    assert figures is not None
    (run_dir / "figures.json").write_text(json.dumps(figures | {"lost": disk.lost(run_dir)}))
    return run_dir


def test_a_run_leaves_everything(unbroken: Path) -> None:
    with (unbroken / METRICS).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and rows[-1]["images_seen"] == "36"
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    figures = json.loads((unbroken / "figures.json").read_text())
    assert figures["steps"] == 9 and figures["best_ap"] >= 0
    for name in ("config.json", "curves.png", "best.keras", "last.keras", "checkpoints", "tensorboard"):
        assert (unbroken / name).exists(), name
    _, config, meta = load_model(unbroken / "best.keras")
    assert config.backbone == "fast" and meta["train"]["size"] == 64


def test_validates_at_a_size_of_its_own(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def evaluate(model: Any, config: Any, samples: Any, size: InputSize, detector: Any) -> dict[str, Any]:
        seen.append((str(size), str(detector.size)))
        return evaluate_keras(model, config, samples, size, detector)

    monkeypatch.setattr(train_loop, "evaluate_keras", evaluate)
    figures = run(*SMALL, f"--data_dir={data}", "--epochs=1", "--set=val_size=64x96", f"--run_dir={tmp_path / 'run'}")
    assert figures is not None and figures["best_ap"] >= 0 and seen == [("64x96", "64x96")]


def test_the_disk_holds_a_run_at_its_end(unbroken: Path) -> None:
    """Weights, checkpoints, rows and curves; the board's own log alone is its own affair."""
    lost = json.loads((unbroken / "figures.json").read_text())["lost"]
    assert [name for name in lost if not name.startswith(("tensorboard", "figures"))] == []


def test_stopped_and_resumed_equals_unbroken(
    unbroken: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same seed, same result, whatever happened in between: here Ctrl-C in the second epoch, and fewer validations."""
    real, at = train_loop.learning_rate, 4

    def stop(step: int, total: int, config: object) -> float:
        if step == at:
            raise KeyboardInterrupt
        return real(step, total, config)  # type: ignore[arg-type]

    run_dir = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(train_loop, "learning_rate", stop)
        with pytest.raises(train_loop.Interrupted, match=f"step {at} of 9"):
            run(*SMALL, "--set=val_every=3", f"--data_dir={data}", "--epochs=3", f"--run_dir={run_dir}")
    run("--resume", f"--run_dir={run_dir}")
    for a, b in zip(weights(unbroken / "last.keras"), weights(run_dir / "last.keras"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    with (run_dir / METRICS).open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_stopped_in_validation_then_the_newest_checkpoint_is_damaged(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(train_loop, "validate", stop)
        with pytest.raises(train_loop.Interrupted, match=f"step 3 of 6 and saved; .* --run_dir {run_dir}$") as caught:
            run(*SMALL, "--set=checkpoint_steps=2", f"--data_dir={data}", "--epochs=2", f"--run_dir={run_dir}")
    assert caught.value.exit_code == 143
    with (run_dir / METRICS).open() as file:
        assert [(row["epoch"], row["val_ap"]) for row in csv.DictReader(file)] == [("1", "")]

    checkpoints = run_dir / "checkpoints"
    (checkpoints / "checkpoint").unlink()
    (checkpoints / "ckpt-3.index").write_bytes(b"")
    run("--resume", f"--run_dir={run_dir}")
    shown = capsys.readouterr()
    assert "ckpt-3: damaged (ckpt-3.index is not as it was written); going on from ckpt-2" in shown.err
    assert f"resuming {run_dir} at step 2" in shown.out
    with (run_dir / METRICS).open() as file:
        assert [row["epoch"] for row in csv.DictReader(file) if row["val_ap"]] == ["1", "2"]

    for path in checkpoints.glob("ckpt-*.index"):
        path.write_bytes(b"")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="no checkpoint can be used"):
        run("--resume", f"--run_dir={run_dir}")
    assert {path: path.read_bytes() for path in before} == before


def test_killed_and_resumed(data: Path, tmp_path: Path, root: Path) -> None:
    run_dir = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "rf_keras.train",
        *SMALL,
        f"--data_dir={data}",
        "--epochs=200",
        "--set=val_every=200",
    ]
    process = subprocess.Popen([*command, f"--run_dir={run_dir}"], cwd=root, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (run_dir / "last.keras").exists():
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    config = json.loads((run_dir / "config.json").read_text())
    config["epochs"] = 1 + int(tf.train.latest_checkpoint(str(run_dir / "checkpoints")).rsplit("-", 1)[1]) // 3
    (run_dir / "config.json").write_text(json.dumps(config))  # so that the resumed run ends soon
    run("--resume", f"--run_dir={run_dir}")
    with (run_dir / METRICS).open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == list(range(1, config["epochs"] + 1))


def test_init_continues_from_weights_and_takes_their_network(
    unbroken: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = unbroken / "best.keras"
    run(*SMALL[1:], f"--data_dir={data}", "--epochs=1", f"--init={start}", "--learning_rate=1e-9",
        "--set=freeze_bn=true", "--config=mobilenet0.25", "--set=ema_decay=0", "--more_sizes=96",
        "--set=antialias=false", f"--run_dir={tmp_path / 'tuned'}")  # fmt: skip
    assert "3 steps of 4 images at 64 and 96 px" in capsys.readouterr().out
    assert read_config(tmp_path / "tuned", TrainConfig).more_sizes == (96,)
    _, network, meta = load_model(tmp_path / "tuned" / "last.keras")
    first, second = meta["parts"]
    assert [first] == load_model(start)[2]["parts"]
    assert (second["images"], second["sizes"], meta["images_seen"]) == (12, [64, 96], first["images"] + 12)
    assert network.backbone == "fast" and load_model(start)[1].antialias and not network.antialias
    for a, b in zip(weights(start), weights(tmp_path / "tuned" / "last.keras"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_loss_that_is_not_finite_stops_and_names_the_batch(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss is (nan|inf) at step \d+.*batch: .*\.jpg"):
        run(*SMALL, f"--data_dir={data}", "--epochs=20", "--learning_rate=1e30", "--set=clip_norm=0",
            "--set=warmup_steps=0", f"--run_dir={tmp_path / 'nan'}")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch=64"], "batch is 64, but there are only 12"),
        (["--size=100"], "size is 100"),
        (["--more_sizes=96,100"], "more_sizes is .96, 100., expected multiples of 32"),
        (["--more_sizes=a"], "--more_sizes is 'a'"),
        (["--augment=wild"], "--augment is 'wild', expected one of none, reference, scale"),
        (["--augment=mixed"], "augment is 'mixed', whose images leave their labels behind: expected a --teacher"),
        (["--set=blocks=three,3"], "--blocks is 'three,3', expected whole numbers"),
        (["--set=blocks=3"], r"blocks is \(3,\), expected two counts"),
        (["--config=mobilenet0.25", "--set=blocks=3,3"], "only the backbone of fast has them"),
        (["--anchor_sizes=ten"], "--anchor_sizes is 'ten'"),
        (["--anchor_sizes=1,1.5/2,2.5/3,3.2"], "match no face"),
        (["--anchor_sizes=80,90/100,200/300,400"], "anchor_sizes"),
        (["--init=absent.keras"], "absent.keras: no such weights file"),
        (["--data_weights=1,2"], "data weights"),
        (["--data_weights=a"], "--data_weights is 'a'"),
        (["--run_dir=/proc/nothing"], "/proc/nothing: cannot write"),
        (["--resume", "--run_dir=absent"], "absent: no run, config.json is missing"),
        (["--repeat=absent"], "give one of them"),
        (["--distribute=multiworker"], "needs --run_dir"),
    ],
)
def test_settings_that_cannot_work_fail_before_the_first_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError), match=message):
        run(*SMALL, f"--data_dir={data}", "--epochs=1", *arguments)
    assert not list(tmp_path.glob("runs/*/metrics.csv"))


def test_a_run_directory_is_not_overwritten(unbroken: Path, data: Path) -> None:
    with pytest.raises(ValueError, match="holds a run already; add --resume"):
        run(*SMALL, f"--data_dir={data}", f"--run_dir={unbroken}")
    with pytest.raises(ValueError, match="batch is 4 in this run, 8 was given"):
        run("--resume", f"--run_dir={unbroken}", "--batch=8")


def test_a_run_is_repeated_from_its_config(unbroken: Path, tmp_path: Path) -> None:
    run(f"--repeat={unbroken}", f"--run_dir={tmp_path / 'again'}")
    for first, second in zip(weights(unbroken / "last.keras"), weights(tmp_path / "again" / "last.keras"), strict=True):
        np.testing.assert_array_equal(first, second)
    options = parse(train.Options, [f"--repeat={unbroken}", "--epochs=1"])
    changed, same = train.prepare(options)[0], read_config(unbroken, TrainConfig)
    assert changed == dataclasses.replace(same, epochs=1)


def test_a_full_disk(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=9_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(ValueError, match=r"run: 9 MB free, the run needs \d+ MB"):
        run(*SMALL, f"--data_dir={data}", "--epochs=1", f"--run_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run" / "config.json").exists()


def test_resume_passes_over_runs_of_other_commands(tmp_path: Path, unbroken: Path) -> None:
    for age, (name, text) in enumerate((("qat", '{"steps": 900}'), ("mine", (unbroken / "config.json").read_text()))):
        path = tmp_path / name / "config.json"
        path.parent.mkdir()
        path.write_text(text)
        os.utime(path, (1e9 - age, 1e9 - age))
    assert newest_run(tmp_path) == tmp_path / "qat"
    assert newest_training_run(tmp_path) == tmp_path / "mine"


@pytest.mark.parametrize(
    "setting, message",
    [
        ("--set=width=0.5", "the network wants"),
        ("--set=class_logits=2", "one logit cannot become two"),
        ("--set=blocks=1,0", r"blocks is \(0, 0\), expected \(1, 0\)"),
    ],
)
def test_weights_of_another_network_do_not_load(
    setting: str, message: str, unbroken: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        run(*SMALL, f"--data_dir={data}", f"--init={unbroken / 'best.keras'}", setting, f"--run_dir={tmp_path}/x")


def test_command_line_errors_are_one_line(root: Path) -> None:
    for arguments, message in ((["--data_dir=/absent"], "/absent"), (["--learning_rte=1"], "learning_rte")):
        done = subprocess.run(
            [sys.executable, "-m", "rf_keras.train", *arguments], cwd=root, capture_output=True, text=True
        )
        assert done.returncode not in (0, None)
        assert message in done.stderr and "Traceback" not in done.stderr


def test_help_shows_every_setting_at_once(root: Path) -> None:
    """Without importing TensorFlow, which takes seconds."""
    for flag in ("--help", "-h"):
        code = f"import sys; sys.argv[1:] = [{flag!r}]\nfrom rf_keras import train\ntry:\n    train.main()\n"
        code += "except SystemExit as end:\n    print(end.code, 'tensorflow' in sys.modules)\n"
        done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "0 False", done.stderr
        for name in ("config", "epochs", "learning_rate", "teacher", "correct_with_labels", "anchor_sizes", "resume"):
            assert f"\n  --{name} " in done.stdout or f"\n  --{name}\n" in done.stdout, name
        for name in ("momentum", "val_share", "blocks", "clip_norm"):
            assert f"\n  {name}=" in done.stdout, name
    expected = "default 0.02; reference: 0.001; synthetic faces: 0.04; with --init: 0.002"
    assert f"peak learning rate ({expected})" in " ".join(done.stdout.split())


def test_a_run_is_started_from_python(data: Path) -> None:
    options = train.Options(data_dir=(data,), settings={"epochs": 1, "activation": "leaky_relu", "teacher": "t.onnx"})
    config, run_dir = train.prepare(options)
    assert (config.epochs, config.model.activation, config.data_dirs) == (1, "leaky_relu", (str(data),))
    assert config.distillation is not None and config.distillation.teacher == "t.onnx"
    assert run_dir.name.endswith("-fast")
