"""Imports go one way between packages and in no circle between files, and what must not differ exists once."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

# Package → project packages that it may import from.
ALLOWED = {
    "tflite": {"tflite"},
    "rf_keras": {"rf_keras", "tflite"},
    "quantization": {"quantization", "rf_keras", "tflite"},
    "benchmarks": {"benchmarks", "quantization", "rf_keras", "tflite", "tests"},
    "recipes": {"recipes", "rf_keras", "tflite"},
}
PROJECT = {
    *ALLOWED,
    "tests",
    "examples",
    "android_demo",
    "web_demo",
}  # retinaface_keras imports nothing: all may know it

# What is to be defined in one file alone, and in which.
ONCE = {
    # anchors, matching, mining, coding
    "make_anchors": "tflite/anchors.py",
    "match": "rf_keras/matching.py",
    "mined_negative_loss": "rf_keras/losses.py",
    "encode_boxes": "rf_keras/box_coding.py",
    "encode_landmarks": "rf_keras/box_coding.py",
    # learning from a teacher
    "corrected_by_labels": "rf_keras/distillation/losses.py",
    "large_faces_by_labels": "rf_keras/distillation/losses.py",
    # decode, suppression, description
    "decode_outputs": "tflite/decode.py",
    "nms": "tflite/nms.py",
    "ModelSpec": "tflite/spec.py",
    "attach_spec": "tflite/spec.py",
    # AP
    "average_precision": "rf_keras/evaluation/wider_ap.py",
    # the int8 recipe
    "fold": "quantization/fold.py",
    "equalize": "quantization/equalize.py",
    "calibrate": "quantization/calibrate.py",
    "correct_biases": "quantization/bias.py",
    "simulate": "quantization/simulate.py",
    "to_tflite": "quantization/export.py",
    "quantize": "quantization/recipe.py",
    "export_int8": "quantization/recipe.py",
    # commands
    "start": "tflite/command.py",
    "write_json": "tflite/command.py",
}
# Steps of the int8 recipe that nothing but the recipe (and the step that needs them) calls.
RECIPE_STEPS = {
    "quantization.equalize": {"quantization/recipe.py"},
    "quantization.bias": {"quantization/recipe.py"},
    "quantization.calibrate": {"quantization/recipe.py", "quantization/equalize.py", "quantization/distill.py"},
}


def sources(root: Path) -> dict[str, ast.Module]:
    """Path from the root → syntax tree of every file of the packages."""
    files = [path for package in ALLOWED for path in sorted((root / package).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported, also inside functions and for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield node.lineno, f"{name}.{alias.name}"


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """Nodes along a circle, empty where there is none."""
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for target in sorted(edges.get(node, ())):
            if found := visit(target, [*trail, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := visit(node, []))), [])


@pytest.fixture(scope="module")
def trees(root: Path) -> dict[str, ast.Module]:
    return sources(root)


def test_imports_go_one_way(trees: dict[str, ast.Module]) -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree in trees.items()
        for line, name in imported(tree, module_of(path))
        if name.partition(".")[0] in PROJECT - ALLOWED[path.partition("/")[0]]
    ]
    assert not wrong


def test_files_import_one_another_in_no_circle(trees: dict[str, ast.Module]) -> None:
    modules = {module_of(path) for path in trees}
    edges: dict[str, set[str]] = defaultdict(set)
    for path, tree in trees.items():
        for _, name in imported(tree, module_of(path)):
            # `from package import module` and `from module import name` look alike.
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target != module_of(path):
                edges[module_of(path)].add(target)
    assert sum(map(len, edges.values())) > 100
    assert not circle(edges)


def test_what_must_not_differ_is_defined_once(trees: dict[str, ast.Module]) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                places[node.name].append(path)
    assert {name: places[name] for name in ONCE} == {name: [path] for name, path in ONCE.items()}


def test_the_recipe_alone_calls_its_steps(trees: dict[str, ast.Module]) -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree in trees.items()
        for line, name in imported(tree, module_of(path))
        for step, callers in RECIPE_STEPS.items()
        if name.startswith(f"{step}.") and path not in callers
    ]
    assert not wrong


WRITERS = {"write_text", "write_bytes", "savefig", "imwrite"}  # methods
# Files that are not written through `replacing`, each with its reason.
WRITTEN_OTHERWISE = {
    "tflite/files.py": "into pipes and devices",
    "tflite/formats.py": "lines are appended as they come",
    "tflite/video_out.py": "into the temporary file that its caller gives",
    "rf_keras/synthetic.py": "into a temporary folder",
    "tflite/decoder_log.py": "to a descriptor",
    "tflite/archives.py": "into memory",
    "quantization/report.py": "into memory",
}


def writes(tree: ast.AST) -> Iterator[int]:
    """Lines of calls that write a file and are in no `with replacing(…)`."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and "replacing(" in "".join(ast.unparse(item) for item in node.items):
            inside |= set(ast.walk(node))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or node in inside:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if name in ("open", "ZipFile"):
            if any(mode.strip("bt") in ("w", "a", "x", "r+", "w+", "a+") for mode in modes):
                yield node.lineno
        elif name in WRITERS and isinstance(node.func, ast.Attribute):
            yield node.lineno


def test_files_get_their_names_when_they_are_complete_and_on_the_disk(trees: dict[str, ast.Module]) -> None:
    product = {path: tree for path, tree in trees.items() if path.startswith(("tflite/", "rf_keras/", "quantization/"))}
    found = {path: lines for path, tree in product.items() if (lines := list(writes(tree)))}
    assert found.keys() == WRITTEN_OTHERWISE.keys(), found
    text = "with replacing(p) as t:\n    t.write_bytes(b'')\np.write_text('')\np.open('wb')\nopen(p, mode='a')\nopen(p)"
    assert list(writes(ast.parse(text))) == [3, 4, 5]


def test_the_walk_sees_every_form_of_import_and_every_circle() -> None:
    tree = ast.parse("import a.b as c\ndef f():\n    from d.e import g\nfrom . import h\nfrom .i import j\n")
    assert [name for _, name in imported(tree, "package.self")] == ["a.b", "package.h", "package.i.j", "d.e.g"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
