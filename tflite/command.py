"""What all commands share: flags from a dataclass of options, errors in one line, results as JSON.

A command is a function of one dataclass, whose fields are its flags:

    @dataclass(frozen=True)
    class Options:
        model: Path = option(DEFAULT_MODEL, "model file (.tflite)")
        runs: int = option(20, "timed runs", low=1)
        json: Path | None = option(None, "file to write the figures to")

    def run(options: Options) -> dict[str, Any]: ...

    if __name__ == "__main__":
        start(run, Options)

What `run` needs beyond the options' own types is best imported inside it where it takes seconds: the flags are parsed
and --help is printed before.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging

from tflite.files import write_text
from tflite.messages import SafeOutput, note, printable, shortened

T = TypeVar("T")

HELP = ("-h", "-help", "--help", "-?")
SET = "set"  # --set name=value: the settings without a flag of their own
LONGEST_ERROR = 2000  # characters
INTERRUPTED = 130  # exit code, as of a process that Ctrl-C killed
EXPECTED: dict[type, tuple[str, str]] = {  # of one value, of several
    int: ("a whole number", "whole numbers split by commas"),
    float: ("a number", "numbers split by commas"),
    bool: ("true or false", ""),
}
PLACEHOLDERS: dict[type, str] = {int: "N", float: "X", Path: "PATH", str: "TEXT"}


def option(
    default: Any = dataclasses.MISSING,
    text: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    parse: Callable[[str], Any] | None = None,
    show: Callable[[Any], str] | None = None,
    hidden: bool = False,
    arguments: str = "",
) -> Any:
    """A dataclass field that is a flag of the same name.

    Its type says how the flag is read: bool as --name and --noname; int, float, str and Path (or None) from one value;
    a tuple of str or Path from a flag that may be repeated; a tuple of numbers from one value, split by commas.

    Args:
        default: of the field; without one the flag is required.
        text: what it is, with its unit, for --help. The default is added to it.
        low, high: bounds of numbers, both allowed.
        choices: the only values.
        parse: text → value, instead of the above; raises ValueError.
        show: value → text, for the default in --help.
        hidden: no flag, but a setting for --set name=value.
        arguments: "only": not a flag, but what is left of the command line; "too": both.
    """
    metadata = {
        "help": text,
        "low": low,
        "high": high,
        "choices": tuple(choices),
        "parse": parse,
        "show": show,
        "hidden": hidden,
        "arguments": arguments,
    }
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def settings_of(*classes: type, note: Callable[[str], str] = lambda name: "") -> Any:
    """A dataclass field `dict[str, Any]`: the settings of other dataclasses that were given, each by its own flag.

    Args:
        classes: dataclasses whose fields were made by `option`; other fields of theirs are left out.
        note: setting → what --help says of it besides.
    """
    return dataclasses.field(default_factory=dict, metadata={"settings": classes, "note": note})


class Setting(typing.NamedTuple):
    """One flag or setting: its field, its type, and what --help says besides."""

    field: dataclasses.Field[Any]
    hint: Any
    note: str

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def kind(self) -> Any:
        """The type without None: int, float, bool, str, Path or a tuple of them."""
        if typing.get_origin(self.hint) in (typing.Union, types.UnionType):
            return next(part for part in typing.get_args(self.hint) if part is not type(None))
        return self.hint

    @property
    def repeated(self) -> bool:
        """A tuple of texts, one per occurrence."""
        return typing.get_origin(self.kind) is tuple and typing.get_args(self.kind)[0] in (str, Path)

    def read(self, text: str) -> Any:
        """The value that `text` stands for (of a repeated flag: of one occurrence).

        Raises:
            ValueError: it stands for none; one line.
        """
        meta = self.field.metadata
        if meta["parse"]:
            return meta["parse"](text)
        if meta["choices"] and text not in meta["choices"]:
            raise ValueError(f"--{self.name} is {text!r}, expected one of {', '.join(meta['choices'])}")
        if typing.get_origin(self.kind) is not tuple:
            return self._number_or_text(text, self.kind, text)
        kind = typing.get_args(self.kind)[0]
        if self.repeated:
            return kind(text)
        return tuple(self._number_or_text(part, kind, text) for part in text.split(",") if part)

    def _number_or_text(self, part: str, kind: type, text: str) -> Any:
        try:
            value = {"true": True, "false": False}[part.lower()] if kind is bool else kind(part)
        except (ValueError, KeyError):
            expected = EXPECTED[kind][typing.get_origin(self.kind) is tuple]
            raise ValueError(f"--{self.name} is {text!r}, expected {expected}") from None
        low, high = self.field.metadata["low"], self.field.metadata["high"]
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            bounds = f"at least {low}" if high is None else f"{low} to {high}" if low is not None else f"at most {high}"
            raise ValueError(f"--{self.name} is {text}, expected {bounds}")
        return value

    def placeholder(self) -> str:
        """What stands for its value in --help."""
        if self.field.metadata["choices"]:
            return "|".join(self.field.metadata["choices"])
        if typing.get_origin(self.kind) is tuple:
            inner = PLACEHOLDERS[typing.get_args(self.kind)[0]] if not self.field.metadata["parse"] else "TEXT"
            return inner if self.repeated or self.field.metadata["parse"] else f"{inner},{inner}"
        return "" if self.kind is bool else PLACEHOLDERS.get(self.kind, "TEXT")

    def describe(self) -> str:
        """Text and default, for --help."""
        default = self.field.default
        parts = [self.note] if self.note else []
        if default is dataclasses.MISSING:
            parts.insert(0, "required")
        elif default not in (None, (), "") and not (self.kind is bool and not default):
            listed = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            plain = self.field.metadata["show"](default) if self.field.metadata["show"] else listed
            parts.insert(0, f"default {'on' if default is True else plain}")
        return self.field.metadata["help"] + (f" ({'; '.join(parts)})" if parts else "")


def _settings(options: type, note: Callable[[str], str] = lambda name: "") -> list[Setting]:
    """The fields of a dataclass that `option` made, those of `settings_of` in their place."""
    hints = typing.get_type_hints(options)
    found = []
    for field in dataclasses.fields(options):
        if "settings" in field.metadata:
            for inner in field.metadata["settings"]:
                found += _settings(inner, field.metadata["note"])
        elif "help" in field.metadata:
            found.append(Setting(field, hints[field.name], note(field.name)))
    return found


def parse(options: type[T], arguments: Sequence[str]) -> T:
    """The options that a command line gives.

    Args:
        options: a dataclass whose fields `option` and `settings_of` made.
        arguments: of the command line, without the program's name.

    Raises:
        ValueError: an unknown flag, a missing one, a value that cannot be read, an argument that is no flag; one line.
    """
    settings = _settings(options)
    values = flags.FlagValues()
    for one in settings:
        if one.field.metadata["hidden"] or one.field.metadata["arguments"] == "only":
            continue
        if one.kind is bool:
            flags.DEFINE_boolean(one.name, None, "", flag_values=values)
        elif one.repeated:
            flags.DEFINE_multi_string(one.name, None, "", flag_values=values)
        else:
            flags.DEFINE_string(one.name, None, "", flag_values=values)
    hidden = {one.name for one in settings if one.field.metadata["hidden"]}
    if hidden:
        flags.DEFINE_multi_string(SET, [], "", flag_values=values)
    try:
        rest = values(["", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        if error.flagname in hidden:
            raise ValueError(f"--{error.flagname} is a setting without a flag: --set {error.flagname}=VALUE") from None
        raise ValueError(f"{error}; --help lists the flags") from None
    except flags.Error as error:
        raise ValueError(" ".join(str(error).split())) from None
    found: dict[str, Any] = {}
    for one in settings:
        given = None if one.name not in values else values[one.name].value
        if one.field.metadata["arguments"] and rest:
            given, rest = [*(given or ()), *rest], []
        if given is not None:
            found[one.name] = given if one.kind is bool else _read(one, given)
    if rest:
        raise ValueError(f"unexpected argument {rest[0]!r}")
    found |= _read_set(settings, values[SET].value) if hidden else {}
    return _assemble(options, found)


def _read(one: Setting, given: str | list[str]) -> Any:
    return tuple(map(one.read, given)) if isinstance(given, list) else one.read(given)


def _read_set(settings: Sequence[Setting], texts: Sequence[str]) -> dict[str, Any]:
    """The values of --set name=value."""
    by_name = {one.name: one for one in settings}
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in by_name:
            known = ", ".join(sorted(one.name for one in settings if one.field.metadata["hidden"]))
            raise ValueError(f"--set {text}: expected NAME=VALUE with a name of {known}")
        one = by_name[name]
        found[name] = (one.read(value),) if one.repeated else one.read(value)
    return found


def _assemble(options: type[T], found: dict[str, Any]) -> T:
    """The dataclass, its settings of other dataclasses gathered in their fields."""
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]  # T is a dataclass
        if "settings" in field.metadata:
            names = {one.name for inner in field.metadata["settings"] for one in _settings(inner)}
            arguments[field.name] = {name: value for name, value in found.items() if name in names}
        elif field.name in found:
            arguments[field.name] = found[field.name]
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"--{field.name} is missing: {field.metadata['help']}")
    return options(**arguments)


def help_text(options: type, description: str) -> str:
    """What --help prints: the description, then every flag with its default."""
    width = min(shutil.get_terminal_size().columns, 120)
    shown = [one for one in _settings(options) if one.field.metadata["arguments"] != "only"]

    def block(setting: Setting, head: str) -> str:
        body = textwrap.fill(setting.describe(), width, initial_indent=" " * 6, subsequent_indent=" " * 6)
        return f"  {head}\n{body}"

    lines = [description.strip(), "", "flags:"]
    for one in shown:
        if not one.field.metadata["hidden"]:
            negative = "[no]" if one.kind is bool and one.field.default is not False else ""
            lines.append(block(one, f"--{negative}{one.name} {one.placeholder()}".rstrip()))
    if hidden := [one for one in shown if one.field.metadata["hidden"]]:
        lines += ["", f"settings, each as --{SET} NAME=VALUE:"]
        lines += [block(one, f"{one.name}={one.placeholder() or 'true|false'}") for one in hidden]
    return "\n".join(lines) + "\n"


def _finite(value: Any) -> Any:
    """JSON knows no infinity and no NaN: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, indented, complete or not at all; "-" is stdout."""
    document, stdout = _finite(document), str(path) == "-"
    text = json.dumps(document, indent=1, ensure_ascii=stdout, allow_nan=False) + "\n"
    if any("\ud800" <= c <= "\udfff" for c in text):  # a name that is no UTF-8
        text = json.dumps(document, indent=1) + "\n"
    if stdout:
        sys.stdout.write(text)
    else:
        write_text(path, text)


def start(run: Callable[[T], Any], options: type[T], *errors: type[Exception]) -> None:
    """Be a command: parse the flags, run, write the result to --json; ends the process.

    Args:
        run: the command. An int that it returns is the exit code; anything else is what `json`, an option of that
            name, wants written. Its module's docstring is the head of --help.
        options: its dataclass.
        errors: exceptions that are the user's, as `user_errors` takes them.
    """

    def parsed(argv: Sequence[str]) -> T:
        flags.FLAGS(argv[:1])  # absl's own
        if any(argument in HELP for argument in argv[1:]):
            print(help_text(options, sys.modules[run.__module__].__doc__ or ""), end="")
            sys.exit(0)
        with user_errors():
            return parse(options, argv[1:])

    def main(given: T) -> int:
        # What the imports made lives as long as the process.
        gc.freeze()
        logging.set_verbosity(logging.WARNING)  # TensorFlow tells of each checkpoint and each file it exports
        with redirect_stdout(SafeOutput(sys.stdout)), user_errors(*errors):
            result = run(given)
            if isinstance(result, int):
                return result
            path = getattr(given, "json", None)
            if path is not None:
                write_json(path, result)
        return 0

    app.run(main, flags_parser=parsed)


def fail(message: str) -> NoReturn:
    """End the process with `error: …`, one line of at most `LONGEST_ERROR` characters, and exit code 1."""
    sys.exit("error: " + shortened(printable(message.strip()), LONGEST_ERROR))


@contextmanager
def user_errors(*more: type[Exception]) -> Iterator[None]:
    """Run a command's body; errors meant for the user end the process by `fail`, Ctrl-C and other signals
    with 128 and their number.

    Args:
        more: exceptions that are the user's too, besides ValueError (every one of ours is a ValueError whose message
            is one line that names file, finding and expectation) and OSError.
    """
    try:
        yield
    except OSError as error:
        plain = error.filename is None or error.strerror is None
        fail(str(error) if plain else f"{error.filename}: {error.strerror}")
    except ValueError as error:
        fail(str(error))
    except more as error:
        fail(str(error))
    except KeyboardInterrupt as stop:
        note(str(stop) or "interrupted")
        sys.exit(getattr(stop, "exit_code", INTERRUPTED))
