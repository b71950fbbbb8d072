from __future__ import annotations

import io
import os

from tflite.messages import LONGEST, SafeOutput, one_line, printable, shortened


def test_what_steers_a_terminal_becomes_an_escape() -> None:
    assert printable("a\x1b[31mb\nc\td\x9b") == r"a\x1b[31mb\nc\td\x9b"
    assert printable("photo\u202egpj.exe \u2028") == r"photo\u202egpj.exe \u2028"
    assert printable(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")) == r"caf\udce9.jpg"


def test_names_in_any_language_stay() -> None:
    for name in ("plain.jpg", "café.jpg", "写真　1.jpg", "👩‍🚀.png", ""):
        assert printable(name) == name


def test_messages_are_one_line_of_bounded_length() -> None:
    assert one_line(ValueError("a\n b\x1b")) == r"a b\x1b"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("x" * 2_000_000))) == LONGEST
    assert shortened("x" * LONGEST) == "x" * LONGEST
    short = shortened("name: " + "x" * LONGEST + ", expected y")
    assert len(short) == LONGEST and short.startswith("name: x") and short.endswith("x, expected y")


def test_what_commands_print_is_safe() -> None:
    raw = io.BytesIO()
    output = SafeOutput(io.TextIOWrapper(raw, "cp1252"))
    print("a\x1b[2J √ é\tb\nc", file=output, flush=True)
    assert raw.getvalue() == b"a\\x1b[2J \\u221a \xe9\tb\nc\n"
    assert output.encoding == "cp1252"
    print("nobody", file=SafeOutput(None))


def test_a_command_goes_on_when_its_reader_left() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        output = SafeOutput(pipe)
        for _ in range(3):
            print("line", file=output, flush=True)
