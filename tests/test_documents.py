"""The documents: budgets, links, commands and figures; and what must not stand in any file of the repository."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import figures

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("benchmarks", "quantization", "rf_keras", "tests", "tflite")
FOLDERS = ("android_demo", "cpp", "docs", "examples", "recipes", "web_demo", *PACKAGES)
MADE = {"__pycache__", "build", ".build", ".gradle", "node_modules", "dist", ".test"}  # folders that tools write
WORDS = {
    "README.md": 900,
    "MODEL_CARD.md": 1100,
    "BUILD_NOTES.md": 1200,
    "CHANGELOG.md": 400,
    "CONTRIBUTING.md": 400,
    "docs/experiments.md": 1500,
    "docs/model-file.md": 900,
    "docs/mesh.md": 900,
    "docs/data.md": 900,
    "docs/detect.md": 900,
    "docs/training.md": 900,
    "docs/quantization.md": 900,
    "docs/deployment.md": 900,
    "docs/benchmarks.md": 900,
    "docs/input-sizes.md": 900,
}
LONGEST_LINE = 120
FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:work|home|root|Users|mnt)/\w"),
    "a reference to what no reader has": re.compile(r"\bDESIGN(?:\.md)? ?§|\bREVIEW(?:\.md)? ?§|\.\./shared|wider/dev"),
    "how the work went": re.compile(
        # With brackets, so that the rule does not break itself.
        r"shippe[d] (?:before|earlier|once|then|still)|one loo[k]|"
        r"(?:this|last|next|earlier|of one|another) sessio[n]s?\b",
        re.I,
    ),
}
TRIPLE = re.compile(r"\d\d\.\d+ ?/ ?\d\d\.\d+ ?/ ?\d\d\.\d+")


def files(*suffixes: str) -> list[Path]:
    """Files of the repository by suffix; all without one. What tools wrote is left out."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in (".ci", *FOLDERS):
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    kept = (path for path in found if not MADE & set(path.relative_to(ROOT).parts))
    return sorted(path for path in kept if not suffixes or path.suffix in suffixes)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


DOCUMENTS = files(".md")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines outside tables and code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fenced ^= line.startswith("```")
        if not (fenced or line.startswith(("|", "    ", "```"))):
            yield number, line


def code(text: str) -> Iterator[str]:
    """What a document shows as code: spans, indented and fenced lines, a line that goes on joined with the next.

    Of a shell script every line.
    """
    fenced, joined = False, ""
    script = text.startswith("#!")
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if script or fenced or line.startswith("    "):
            joined += line.strip().removesuffix("\\")
            if not line.endswith("\\"):
                yield joined
                joined = ""
        else:
            yield from re.findall(r"`([^`]+)`", line)


@pytest.mark.parametrize(("document", "budget"), WORDS.items())
def test_words(document: str, budget: int) -> None:
    words = len((ROOT / document).read_text(encoding="utf-8").split())
    assert words <= budget, f"{document}: {words} words, budget {budget}"


def test_every_page_has_a_budget() -> None:
    pages = {name(path) for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs")}
    assert pages == set(WORDS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_lines_are_short_and_figures_stand_in_tables(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    long = [number for number, line in enumerate(text.splitlines(), 1) if len(line) > LONGEST_LINE and line[0] != "|"]
    assert not long, f"{name(path)}: lines {long} are longer than {LONGEST_LINE}"
    triples = [number for number, line in prose(text) if TRIPLE.search(line)]
    assert not triples, f"{name(path)}: AP in prose, lines {triples}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (path.parent / t).exists()]
    assert not missing, f"{name(path)}: links to {missing}, which are not there"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_files_that_are_named_exist(path: Path) -> None:
    folder, package = "|".join(FOLDERS), "|".join(PACKAGES)
    missing = []
    for piece in code(path.read_text(encoding="utf-8")):
        for named in re.findall(rf"(?<![\w/.-])(?:{folder})/[\w./*-]*[\w*/]", piece):
            if not list(ROOT.glob(named)) and not MADE & set(Path(named).parts):
                missing.append(named)
        for module in re.findall(rf"-m ((?:{package})[\w.]*)", piece):
            file = ROOT / module.replace(".", "/")
            command = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__main__.py"
            if not command.is_file() or '__name__ == "__main__"' not in command.read_text(encoding="utf-8"):
                missing.append(f"-m {module}")
    assert not missing, f"{name(path)} names {missing}, which are not there"


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for path in DOCUMENTS:
        pieces = code(path.read_text(encoding="utf-8"))
        named = {match[1] for piece in pieces if (match := re.match(r"make ([\w-]+)", piece))}
        assert named <= targets, f"{name(path)}: make {named - targets}"


def settings() -> tuple[set[str], set[str]]:
    """Flags of all commands, and settings that only --set reaches, by reading the sources."""
    flags: set[str] = {"help", "version", "set"}
    hidden: set[str] = set()
    for path in files(".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
                if getattr(node.value.func, "id", "") == "option" and isinstance(node.target, ast.Name):
                    only = any(k.arg == "hidden" and getattr(k.value, "value", 0) for k in node.value.keywords)
                    (hidden if only else flags).add(node.target.id)
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith(("DEFINE_", "add_argument")):
                flags |= {str(a.value).lstrip("-") for a in node.args[:1] if isinstance(a, ast.Constant)}
    return flags, hidden


def test_flags_that_are_named_exist() -> None:
    flags, hidden = settings()
    wrong = []
    for path in (*DOCUMENTS, *(ROOT / "recipes").glob("*.sh")):
        if path.name in ("experiments.md", "CHANGELOG.md"):  # they name what was taken out
            continue
        for piece in code(path.read_text(encoding="utf-8")):
            if not re.match(r"(?:retinaface|python) |--\w", piece) or " pip " in piece:
                continue
            for flag in re.findall(r"(?<!\S)--(\w+)", piece):
                if flag not in flags and flag.removeprefix("no") not in flags:
                    wrong.append(f"{name(path)}: --{flag}")
            wrong += [
                f"{name(path)}: --set {s}" for s in re.findall(r"--set (\w+)=", piece) if s not in hidden | {"key"}
            ]
    assert not wrong, wrong


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Everything readable in a file: its text; of a model file what is text in its archive and before it."""
    data = path.read_bytes()
    parts = {name(path): data}
    if path.suffix in (".keras", ".tflite"):
        with zipfile.ZipFile(path) as archive:
            parts |= {f"{name(path)}, {member}": archive.read(member) for member in archive.namelist()}
    for where, part in parts.items():
        if b"\0" not in part:
            yield where, part.decode("utf-8", "replace")
        elif len(parts) > 1:
            yield where, b"\n".join(re.findall(rb"[ -~]{6,}", part)).decode()


def test_nothing_holds_what_no_reader_can_use() -> None:
    found = []
    for path in files():
        if path == Path(__file__):
            continue  # the patterns themselves
        for where, text in texts(path):
            found += [f"{where}: {what}: {match[0]!r}" for what, p in FORBIDDEN.items() if (match := p.search(text))]
    assert not found, "\n".join(found)


def test_tables_are_those_of_the_figures() -> None:
    for document, text in figures.documents().items():
        found = (ROOT / document).read_text(encoding="utf-8")
        assert found == text, f"{document}: its tables are not docs/figures.json's: run benchmarks/figures.py"


def test_figures_are_of_the_files_that_ship() -> None:
    measured, side, sizes = figures.read_figures()
    # A file with a mesh finds the faces of the file without it (tests/tflite/test_shipped.py).
    models = [path for path in (ROOT / figures.MODELS).glob("*.tflite") if "_mesh_" not in path.name]
    shipped = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in models}
    assert {file: of["sha256"] for file, of in measured["int8"].items()} == shipped
    assert {row.get("file"): row.get("sha256") for row in side["rows"] if row["ours"]} == shipped
    assert sizes["sha256"] == shipped[sizes["file"]]
    for key, of in measured["float"].items():
        weights = ROOT / figures.WEIGHTS / key.split()[0]
        assert of["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest(), key


def test_digests_that_are_named_are_those_of_files() -> None:
    suffixes = (".tflite", ".keras")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files(*suffixes)}
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if path.name == "CHANGELOG.md":  # earlier versions' files are in the history alone
            text = text.partition("figures:version:end")[0]
        named = set(re.findall(r"\b[0-9a-f]{64}\b", text))
        assert named <= digests, f"{name(path)}: {named - digests}"


def test_experiments_are_one_table_of_short_verdicts() -> None:
    rows = [line for line in (ROOT / "docs/experiments.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert rows[0] == "| what | commit | images, steps | AP 640 | AP 320 | verdict |"
    for row in rows[2:]:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 6 and re.fullmatch(r"[0-9a-f]{7}|–", cells[1]), row
        assert len(cells[5].split()) <= 12, row


def test_the_figures_file_holds_numbers_alone() -> None:
    assert TRIPLE.search((ROOT / figures.FIGURES).read_text(encoding="utf-8")) is None
    assert set(json.loads((ROOT / figures.FIGURES).read_text(encoding="utf-8"))) == {"int8", "float"}
