"""Change one thing in the Python code at a time: the tests must notice at least 95 % of the changes.

    python -m tests.mutation [TEXT …]

The list is tests/mutants.py; with TEXT only the mutants whose file, code or tests contain one of the texts. Prints a
line per mutant with the test that killed it, then the survivors and the share by package. Exits with 1 if more than
5 % survive, with 2 if a mutant cannot be applied or run, or its tests fail on the unchanged code, too. Takes some tens
of minutes, thus not part of `make test`.

The files that git knows or would add are copied to a temporary folder, where one file at a time is changed. TensorFlow
and the like are imported once; a fork of that process runs the tests of a mutant on the copy.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import HARMLESS, MUTANTS, Mutant, MutantError, files_of, locate

ROOT = Path(__file__).resolve().parent.parent
WANTED_SHARE = 0.95
LONGEST = 10.0  # times what all tests take on the unchanged code, and a minute: an endless loop is noticed, too
PROJECT = {"tflite", "rf_keras", "quantization", "benchmarks", "tests"}
SHARED_IMPORTS = (
    "tensorflow",
    "tf_keras",
    "tensorflow_model_optimization",
    "tensorflow.lite.python.schema_py_generated",
    "ai_edge_litert.interpreter",
    "cv2",
    "PIL.Image",
    "hypothesis",
    "onnx",
    "scipy.io",
)


class RunError(Exception):
    """The tests of a mutant, or of the unchanged code, could not be run as they should."""


@dataclass
class Costs:
    """Seconds that the unchanged code's tests took."""

    calls: dict[str, float] = field(default_factory=dict)  # by test
    fixtures: dict[str, float] = field(default_factory=dict)  # by name

    def of(self, item: pytest.Item) -> float:
        """What a test costs where none of its fixtures is there yet."""
        names = getattr(item, "fixturenames", ())
        return self.calls.get(item.nodeid, 0.0) + sum(self.fixtures.get(name, 0.0) for name in names)


@dataclass(frozen=True)
class Outcome:
    """What the tests said: `killer` is the first that failed, None if all passed."""

    killer: str | None
    seconds: float
    costs: Costs


class Watch:
    """A pytest plugin: cheap tests first, remembers the first that fails and what each costs."""

    def __init__(self, known: Costs) -> None:
        self.known, self.costs = known, Costs()
        self.killer: str | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=self.known.of)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        start = time.monotonic()
        try:
            return (yield)
        finally:
            self.costs.fixtures[fixturedef.argname] = time.monotonic() - start

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.costs.calls[report.nodeid] = report.duration
        if report.failed and self.killer is None:
            self.killer = report.nodeid


def copy_tree(target: Path) -> None:
    """The repository's files without what git ignores.

    Raises:
        RunError: this is no git checkout.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        raise RunError(f"git cannot list the files of {ROOT}: {found.stderr.strip()}")
    for name in filter(None, found.stdout.split("\0")):
        if (ROOT / name).is_file():  # a file that was deleted without git knowing is still listed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def import_once(tree: Path) -> None:
    """Import what all mutants share, with the settings that `rf_keras` makes for TensorFlow, and nothing of ours."""
    for name in PROJECT:
        # Valid by the source's hash: of a file changed twice in a second Python would otherwise take older bytecode.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(tree / name, quiet=2, invalidation_mode=mode)
    os.environ["PYTHONPATH"] = str(tree)
    os.environ.pop("CI", None)  # where it is set tests fail for want of the photos beside the clone
    import rf_keras  # noqa: F401

    for name in SHARED_IMPORTS:
        importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--version"])  # imports its plugins


def run_child(tree: Path, files: Sequence[str], known: Costs, report: Path) -> None:
    """Run the tests on the copy and write what failed first; the process that does this was forked for it."""
    import hypothesis

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log = os.open(report.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in PROJECT]:
        del sys.modules[name]
    sys.path.insert(0, str(tree))
    os.chdir(tree)
    # The same examples for every mutant; a failure need not be made small.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", derandomize=True, database=None, phases=phases)
    hypothesis.settings.load_profile("mutation")
    watch = Watch(known)
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files], plugins=[watch])
    ours = [getattr(sys.modules[name], "__file__", None) for name in sys.modules if name.partition(".")[0] in PROJECT]
    foreign = [file for file in ours if file and not Path(file).is_relative_to(tree)]
    result = {"code": int(code), "killer": watch.killer, "foreign": foreign, "costs": asdict(watch.costs)}
    report.write_text(json.dumps(result))


def run_tests(tree: Path, files: Sequence[str], known: Costs, longest: float | None) -> Outcome:
    """Run test files of the copy in a process of their own, for `longest` seconds at most, cheap tests first.

    Raises:
        RunError: pytest ran no test, could not collect them, or imported files from elsewhere.
    """
    report = tree.parent / "report.json"
    report.unlink(missing_ok=True)
    start = time.monotonic()
    child = multiprocessing.get_context("fork").Process(target=run_child, args=(tree, files, known, report))
    child.start()
    try:
        child.join(longest)
        endless = child.is_alive()
    finally:  # also where this process is told to end
        child.kill()
        child.join()
    if endless:
        return Outcome(f"no end after {longest:.0f} s", time.monotonic() - start, known)
    seconds = time.monotonic() - start
    if not report.exists():
        return Outcome(f"the process ended with {child.exitcode}", seconds, known)
    result = json.loads(report.read_text())
    if result["code"] not in (0, 1) or result["foreign"]:
        log = report.with_suffix(".log").read_text(errors="replace")
        raise RunError(f"pytest ended with {result['code']} on {' '.join(files)} {result['foreign']}\n{log[-3000:]}")
    return Outcome(result["killer"] if result["code"] else None, seconds, Costs(**result["costs"]))


def run_mutant(mutant: Mutant, tree: Path, unchanged: Outcome) -> Outcome:
    """Apply a mutant to the copy, run its tests, take it back."""
    path = locate(mutant, tree)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        files = [str(file.relative_to(tree)) for file in files_of(mutant, tree)]
        return run_tests(tree, files, unchanged.costs, 60 + LONGEST * unchanged.seconds)
    finally:
        path.write_text(text, encoding="utf-8")


def chosen(mutants: Sequence[Mutant], texts: Sequence[str]) -> list[Mutant]:
    """The mutants whose file, code or tests contain one of the texts; all without any."""
    return [
        mutant
        for mutant in mutants
        if not texts or any(text in f"{locate(mutant, ROOT)} {mutant} {mutant.tests}" for text in texts)
    ]


@dataclass
class Tally:
    """What came of the mutants of one package: their number and the lines of those not killed."""

    mutants: int = 0
    survivors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return self.mutants - len(self.survivors) - len(self.failures)


class Baselines:
    """The test files of each mutant on the unchanged code, run once for each set of files: they must pass."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._known: dict[tuple[str, ...], Outcome | RunError] = {}

    def of(self, files: tuple[str, ...]) -> Outcome:
        """The outcome.

        Raises:
            RunError: a test fails on the unchanged code, or none could be run.
        """
        if files not in self._known:
            self._known[files] = self._run(files)
        known = self._known[files]
        if isinstance(known, RunError):
            raise known
        return known

    def _run(self, files: tuple[str, ...]) -> Outcome | RunError:
        try:
            outcome = run_tests(self._tree, files, Costs(), None)
        except RunError as error:
            return error
        if outcome.killer:
            return RunError(f"the unchanged code fails: {outcome.killer}")
        print(f"the unchanged code passes {' '.join(files)} in {outcome.seconds:.0f} s", flush=True)
        return outcome


def check(texts: Sequence[str]) -> int:
    """The command; returns the exit code.

    Raises:
        MutantError, RunError: see above.
    """
    mutants = chosen(MUTANTS, texts)
    if not mutants:
        raise MutantError(f"no mutant has {' or '.join(texts)} in its file, code or tests")
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name).resolve() / "tree"
        copy_tree(tree)
        import_once(tree)
        baselines = Baselines(tree)
        for number, mutant in enumerate(mutants, 1):
            tally = tallies.setdefault(mutant.package, Tally())
            tally.mutants += 1
            line = f"{locate(mutant, tree).relative_to(tree)}: {mutant}"
            start = time.monotonic()
            try:
                files = tuple(str(file.relative_to(tree)) for file in files_of(mutant, tree))
                outcome = run_mutant(mutant, tree, baselines.of(files))
                verdict = f"killed by {outcome.killer}" if outcome.killer else "SURVIVED"
                if not outcome.killer:
                    tally.survivors.append(line)
            except RunError as error:
                verdict = f"NOT RUN: {error}"
                tally.failures.append(line)
            print(f"[{number}/{len(mutants)}, {time.monotonic() - start:.1f} s] {line}: {verdict}", flush=True)
    return summarize(tallies)


def summarize(tallies: dict[str, Tally]) -> int:
    """Print what came of all; the exit code."""
    for tally in tallies.values():
        for line in tally.failures:
            print(f"not run: {line}")
        for line in tally.survivors:
            print(f"survived: {line}")
    for package, tally in tallies.items():
        print(f"{package}: {tally.mutants} mutants, {tally.killed} killed")
    mutants = sum(tally.mutants for tally in tallies.values())
    killed = sum(tally.killed for tally in tallies.values())
    survived = sum(len(tally.survivors) for tally in tallies.values())
    print(f"{mutants} mutants, {killed} killed ({100 * killed / mutants:.1f} %), {survived} survived")
    print(f"{len(HARMLESS)} more change nothing that a user could see and are not run (tests/mutants.py says why)")
    if survived + killed < mutants:
        return 2
    return 0 if killed >= WANTED_SHARE * mutants else 1


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return check(sys.argv[1:])
    except (MutantError, RunError) as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
