"""The list of mutants fits the code; `make mutation` runs them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mutants import HARMLESS, MUTANTS, Mutant, MutantError, files_of, locate


def test_each_text_is_found_once_and_its_tests_exist(root: Path) -> None:
    problems = []
    for mutant in (*MUTANTS, *HARMLESS):
        try:
            path = locate(mutant, root)
            files = files_of(mutant, root)
        except MutantError as error:
            problems.append(str(error))
            continue
        text = path.read_text(encoding="utf-8")
        changed = text.replace(mutant.old, mutant.new)
        assert changed != text and bool(files) != bool(mutant.reason), mutant
        try:
            ast.parse(changed)  # what is no Python would be "killed" by any test
        except SyntaxError as error:
            problems.append(f"{mutant}: {error}")
    assert not problems, "\n".join(problems)


def kotlin_and_cpp(script: Path) -> list[tuple[str, str, str]]:
    """File, old and new text of each `Mutant(…)` in a script, which is not run: it needs compilers."""
    calls = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call)]
    found = [call.args for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Mutant"]
    return [(ast.literal_eval(a), ast.literal_eval(b), ast.literal_eval(c)) for a, b, c in found]


def javascript(script: Path) -> list[tuple[str, str, str]]:
    """The same of the list in a module, which Python reads alike."""
    rows = ast.literal_eval(script.read_text().partition("const MUTANTS = ")[2].partition("\n];")[0] + "]")
    return [(file, old, new) for file, old, new in rows]


@pytest.mark.parametrize(
    ("read", "script", "code", "least"),
    [
        (kotlin_and_cpp, "tests/android/mutation.py", "android_demo/core/src/main/kotlin/org/retinaface/core", 75),
        (kotlin_and_cpp, "tests/cpp/mutation.py", "cpp/include/retinaface", 41),
        (javascript, "tests/web/mutation.mjs", "web_demo", 39),
    ],
)
def test_each_text_of_another_language_is_found_once(
    root: Path, read: Callable[[Path], list[tuple[str, str, str]]], script: str, code: str, least: int
) -> None:
    mutants = read(root / script)
    assert len(set(mutants)) == len(mutants) >= least
    for file, old, new in mutants:
        text = (root / code / file).read_text(encoding="utf-8")
        assert text.count(old) == 1 and new != old, (file, old, text.count(old))


def test_the_list_is_long_and_has_no_mutant_twice() -> None:
    every = MUTANTS + HARMLESS
    assert len(MUTANTS) >= 60
    assert len({(mutant.package, mutant.old, mutant.new) for mutant in every}) == len(every)


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p" / "sub").mkdir(parents=True)
    (tmp_path / "p" / "a.py").write_text("x = 1\n")
    (tmp_path / "p" / "sub" / "b.py").write_text("y = 1\n")
    assert locate(Mutant("p", "y = 1", "y = 2"), tmp_path) == tmp_path / "p" / "sub" / "b.py"
    with pytest.raises(MutantError, match=r"'z' occurs 0 times in any file of p, expected once"):
        locate(Mutant("p", "z", ""), tmp_path)
    with pytest.raises(MutantError, match=r"' = 1' occurs 2 times in p/a.py, p/sub/b.py, expected once"):
        locate(Mutant("p", " = 1", " = 2"), tmp_path)
    with pytest.raises(MutantError, match=r"no test file tests/p/test_a\.py"):
        files_of(Mutant("p", "x = 1", "x = 2", ("p/test_a",)), tmp_path)
