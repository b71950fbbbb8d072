"""The last line of defence of every command."""

import pytest
from absl import app

from tflite.command import flags_only, user_errors


def message(error: Exception, *more: type[Exception]) -> str:
    with pytest.raises(SystemExit) as caught, user_errors(*more):
        raise error
    assert isinstance(caught.value.code, str)  # Python prints it to stderr and exits with 1
    return caught.value.code


def test_errors_become_one_line() -> None:
    assert message(ValueError("a.jpg: found 1, expected 2")) == "error: a.jpg: found 1, expected 2"
    assert message(FileNotFoundError(2, "No such file or directory", "a.jpg")) == (
        "error: a.jpg: No such file or directory"
    )
    assert message(OSError("no disk")) == "error: no disk"
    assert message(RuntimeError("peer"), RuntimeError) == "error: peer"


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError), user_errors():
        raise RuntimeError("ours")


def test_arguments_that_are_not_flags() -> None:
    flags_only(["train"])
    with pytest.raises(app.UsageError, match="'extra'"):
        flags_only(["train", "extra"])
