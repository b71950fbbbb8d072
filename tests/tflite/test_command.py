"""Flags from options, and the last line of defence of every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tflite.command import help_text, option, parse, settings_of, user_errors, write_json


@dataclass(frozen=True)
class Network:
    layers: tuple[str, ...] = ("a",)  # no option: no flag
    rate: float = option(0.02, "peak learning rate", low=0)
    momentum: float = option(0.9, "of the optimiser", hidden=True, low=0, high=1)
    frozen: bool = option(False, "keep statistics", hidden=True)


@dataclass(frozen=True)
class Options:
    weights: Path = option(text="weights file")
    models: tuple[Path, ...] = option((), "model files; repeatable", arguments="too")
    equalize: bool = option(True, "even out channels")
    sizes: tuple[int, ...] = option((640, 320), "sides in pixels")
    runs: int | None = option(None, "timed runs", low=1)
    kind: str = option("sgd", "optimiser", choices=("sgd", "adam"))
    box: tuple[float, ...] = option((), "corners", parse=lambda text: tuple(map(float, text.split("/"))))
    settings: dict[str, Any] = settings_of(Network, note=lambda name: f"fast: {name}" if name == "rate" else "")


def read(*arguments: str) -> Options:
    return parse(Options, ("--weights", "w.keras", *arguments))


def test_what_is_not_given_keeps_its_default() -> None:
    assert read() == Options(Path("w.keras"))
    assert read().settings == {}, "not even the defaults: a preset's value stands behind them"


def test_values_have_the_type_of_their_field() -> None:
    given = read("--models=a.tflite", "--models", "b.tflite", "c.tflite", "--noequalize", "--sizes=96", "--runs=3")
    assert given.models == (Path("a.tflite"), Path("b.tflite"), Path("c.tflite"))
    assert (given.equalize, given.sizes, given.runs) == (False, (96,), 3)
    assert read("--box=1/2.5").box == (1.0, 2.5)
    assert read("--kind", "adam").kind == "adam"


def test_settings_by_flag_and_by_set() -> None:
    given = read("--rate=1", "--set=momentum=0.5", "--set", "frozen=true", "--set=runs=4")
    assert given.settings == {"rate": 1.0, "momentum": 0.5, "frozen": True}
    assert given.runs == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus"], "Unknown command line flag 'bogus'; --help lists the flags"),
        (["--momentum=1"], "--momentum is a setting without a flag: --set momentum=VALUE"),
        (["--runs=x"], "--runs is 'x', expected a whole number"),
        (["--runs=0"], "--runs is 0, expected at least 1"),
        (["--sizes=1,x"], "--sizes is '1,x', expected whole numbers split by commas"),
        (["--rate=nan"], "--rate is nan, expected at least 0"),
        (["--kind=rms"], "--kind is 'rms', expected one of sgd, adam"),
        (["--set=momentum=2"], "--momentum is 2, expected 0 to 1"),
        (["--set=frozen=maybe"], "--frozen is 'maybe', expected true or false"),
        (["--set=momentum"], "--set momentum: expected NAME=VALUE with a name of frozen, momentum"),
        (["--set=layers=b"], "--set layers=b: expected NAME=VALUE"),
        (["--runs"], "Missing value for flag --runs"),
    ],
)
def test_bad_flags(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_flag_and_an_argument_too_many() -> None:
    with pytest.raises(ValueError, match="--weights is missing: weights file"):
        parse(Options, [])

    @dataclass(frozen=True)
    class Plain:
        runs: int = option(1, "timed runs")

    with pytest.raises(ValueError, match="unexpected argument 'extra'"):
        parse(Plain, ["extra"])


def test_help_names_every_flag_with_its_default() -> None:
    text = help_text(Options, "What it does.\n")
    assert text.startswith("What it does.\n\nflags:\n  --weights PATH\n      weights file (required)\n")
    for part in ("--[no]equalize\n      even out channels (default on)", "--sizes N,N\n", "(default 640,320)"):
        assert part in text
    assert "--rate X\n      peak learning rate (default 0.02; fast: rate)" in text
    assert "settings, each as --set NAME=VALUE:\n  momentum=X\n      of the optimiser (default 0.9)" in text
    assert "layers" not in text


COMMAND = """
'''Adds up.'''
from dataclasses import dataclass
from pathlib import Path
from tflite.command import option, start

@dataclass(frozen=True)
class Options:
    numbers: tuple[int, ...] = option((), "to add")
    code: int = option(0, "exit code, if not 0")
    json: Path | None = option(None, "file for the sum")

def run(options):
    if sum(options.numbers) < 0:
        raise ValueError("numbers: below 0 in all, expected 0 or more")
    return options.code or {"sum": sum(options.numbers)}

start(run, Options)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["--numbers=1,2", "--json=-"], 0, '"sum": 3'),
        (["--code=4"], 4, ""),
        (["--help"], 0, "Adds up.\n\nflags:"),
        (["--numbers=x", "-h"], 0, "  --numbers N,N\n"),
        (["--numbers=-1"], 1, "error: numbers: below 0 in all, expected 0 or more"),
        (["--numbers=x"], 1, "error: --numbers is 'x', expected whole numbers"),
        (["extra"], 1, "error: unexpected argument 'extra'"),
    ],
)
def test_a_command(arguments: list[str], code: int, shown: str, root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], cwd=root, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert shown in (done.stderr if code == 1 else done.stdout)
    assert "Traceback" not in done.stderr


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"√": [1]})
    assert json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8")) == {"√": [1]}
    write_json(tmp_path / "a.json", {"nme": float("nan"), "all": [(float("inf"), 1.5)]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"nme": None, "all": [[None, 1.5]]}
    name = os.fsdecode(b"caf\xe9.jpg")
    write_json(tmp_path / "a.json", {"name": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="ascii")) == {"name": name}
    with pytest.raises(TypeError):
        write_json(tmp_path / "b.json", object())
    assert not (tmp_path / "b.json").exists()


def message(error: BaseException, *more: type[Exception]) -> str | int:
    with pytest.raises(SystemExit) as caught, user_errors(*more):
        raise error
    assert caught.value.code is not None
    return caught.value.code  # Python prints a text to stderr and exits with 1


def test_errors_become_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert message(ValueError("a.jpg: found 1, expected 2")) == "error: a.jpg: found 1, expected 2"
    assert message(FileNotFoundError(2, "No such file or directory", "a.jpg")) == (
        "error: a.jpg: No such file or directory"
    )
    assert message(OSError("no disk")) == "error: no disk"
    assert message(RuntimeError("peer"), RuntimeError) == "error: peer"
    assert message(OSError(2, "No such file", "a\x1b[2J\n.jpg")) == r"error: a\x1b[2J\n.jpg: No such file"
    long = message(ValueError("x" * 1_200_000 + ", expected y"))
    assert isinstance(long, str) and len(long) < 2100 and long.endswith("x, expected y")
    stop = KeyboardInterrupt("stopped and saved")
    stop.exit_code = 143  # type: ignore[attr-defined]
    assert message(stop) == 143
    assert capsys.readouterr().err == "stopped and saved\n"
    assert message(KeyboardInterrupt("stopped and saved")) == 130
    assert capsys.readouterr().err == "stopped and saved\n"


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError), user_errors():
        raise RuntimeError("ours")
