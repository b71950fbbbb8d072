"""Delegates: a shared library that is built here stands for an accelerator's."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.tflite.conftest import photo
from tflite.delegates import parse_delegate
from tflite.detector import FaceDetector

# The interface of TensorFlow Lite's external delegates. This one takes no operation, so that the CPU computes all; it
# refuses to be made with the option broken=…, and with fails=… to be prepared.
SOURCE = r"""
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <stdio.h>
typedef struct Delegate {
  void* data;
  int (*prepare)(void* context, struct Delegate* delegate);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void* opaque;
} Delegate;
static int ok(void* context, Delegate* delegate) { return 0; }
static int fail(void* context, Delegate* delegate) { return 1; }
Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  Delegate* made = calloc(1, sizeof(Delegate));
  made->prepare = ok;
  for (size_t i = 0; i < count; i++) {
    if (!strcmp(keys[i], "broken")) { report("no device found"); free(made); return NULL; }
    if (!strcmp(keys[i], "fails")) made->prepare = fail;
    if (!strcmp(keys[i], "mark")) { FILE* file = fopen(values[i], "w"); fputs("used", file); fclose(file); }
  }
  return made;
}
void tflite_plugin_destroy_delegate(Delegate* delegate) { free(delegate); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "d.c").write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libd.so", folder / "d.c"], check=True)
    return folder / "libd.so"


@pytest.fixture(scope="module")
def plain() -> FaceDetector:
    return FaceDetector("fast_320", num_threads=1, input_size=(64, 64))


def test_a_delegate_runs_and_gets_its_options(library: Path, plain: FaceDetector, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with FaceDetector("fast_320", 1, (64, 64), delegate=f"{library}:mark={mark}") as detector:
        assert detector.interpreter_name == f"{plain.interpreter_name} with {library}"
        assert mark.read_text() == "used"
        assert detector.detect(photo()) == plain.detect(photo())
        detector.detect(np.zeros((40, 200, 3), np.uint8))
        mark.unlink()
        assert pickle.loads(pickle.dumps(detector)).delegate == detector.delegate and mark.exists()


@pytest.mark.parametrize("text", ["{library}:broken=1", "{library}:fails=1", "{library}.none", "{source}", "libm.so.6"])
def test_where_it_cannot_be_used_the_cpu_is(text: str, library: Path, plain: FaceDetector) -> None:
    given = text.format(library=library, source=library.with_name("d.c"))
    with FaceDetector("fast_320", 1, (64, 64), delegate=given) as detector:
        assert detector.interpreter_name.startswith(f"{plain.interpreter_name} without {given.partition(':')[0]} (")
        assert detector.detect(photo()) == plain.detect(photo())


def test_how_a_delegate_is_written() -> None:
    assert parse_delegate("libedgetpu.so.1") == ("libedgetpu.so.1", {})
    assert parse_delegate("a.so:device=usb:x=b=c") == ("a.so", {"device": "usb", "x": "b=c"})
    assert parse_delegate("C:\\a.dll:n=1") == ("C:\\a.dll", {"n": "1"})
    for text in ("", ":a=b", "a.so:n=1:n=2", "a.so:n=1:m"):
        with pytest.raises(ValueError, match="expected PATH"):
            FaceDetector("fast_320", delegate=text)
