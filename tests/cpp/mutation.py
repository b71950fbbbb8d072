"""Change one thing in the C++ headers at a time: the tests must notice every change.

    python -m tests.cpp.mutation

Prints a line per mutant with the test that killed it; exits with 1 if one survives. Takes some minutes, thus not part
of `make test-cpp`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cpp import build
from tests.cpp import conftest as _paths  # noqa: F401  (sets the import path)
from tests.cpp import test_cpp_arithmetic as arithmetic
from tests.cpp import test_cpp_strangers as strangers


@dataclass(frozen=True)
class Mutant:
    """One replacement in one header; `old` occurs there exactly once. `sanitize`: a read beyond the end is to tell."""

    file: str
    old: str
    new: str
    sanitize: bool = False


MUTANTS = (
    Mutant("mesh.hpp", "2 * (w * z - x * y)", "2 * (x * y - w * z)"),
    Mutant("mesh.hpp", "2 * (x * z - w * y)", "2 * (x * z + w * y)"),
    Mutant("mesh.hpp", "-degrees(std::asin(up))", "degrees(std::asin(up))"),
    Mutant("mesh.hpp", "std::sqrt((box[2] - box[0]) * (box[3] - box[1]))", "(box[2] - box[0]) * (box[3] - box[1])"),
    Mutant("mesh.hpp", "std::isnan(coefficient) ? 0.0f : ", ""),
    Mutant("mesh.hpp", "coefficient, -1e3f, 1e3f", "coefficient, -1e4f, 1e4f"),
    Mutant("mesh.hpp", "double{numbers_[i]} - middle[i % 3]", "double{numbers_[i]}"),
    Mutant("mesh.hpp", "rows < 2 || ", ""),
    Mutant("mesh.hpp", "if (!has_entry(model, kMeshFile)) return std::nullopt;", ""),
    Mutant("decode.hpp", "placed(units, candidate.decoded, scale)", "placed(units, candidate.box, scale)"),
    Mutant("decode.hpp", "std::log(1000.0 / 16)", "std::log(1000.0 / 15)"),
    Mutant("decode.hpp", "static_cast<double>(exponent))) * 0.5f", "static_cast<double>(exponent))) * 0.4999f"),
    Mutant("decode.hpp", "* scale >= wanted) return q", "* scale > wanted) return q"),
    Mutant("decode.hpp", "score.quantized[i] >= least", "score.quantized[i] > least"),
    Mutant("decode.hpp", "score.floats[i] >= wanted", "score.floats[i] > wanted"),
    Mutant("decode.hpp", "std::log(probability / (1 - probability))", "std::log(probability / (1.001 - probability))"),
    Mutant("decode.hpp", "(static_cast<double>(cell % columns) + 0.5)", "(static_cast<double>(cell % columns) + 0.4)"),
    Mutant("decode.hpp", "(static_cast<double>(cell / columns) + 0.5)", "(static_cast<double>(cell / columns) + 0.6)"),
    Mutant("decode.hpp", "level.box.at(at + 2) * v1", "level.box.at(at + 2) * v0"),
    Mutant("decode.hpp", "centre[i % 2] + level.landmark", "centre[i / 5] + level.landmark"),
    Mutant("decode.hpp", "    first += anchors;\n", ""),
    Mutant("decode.hpp", "a.logit > b.logit : a.anchor < b.anchor", "a.logit > b.logit : a.anchor > b.anchor"),
    Mutant("decode.hpp", "    found.resize(most);\n", ""),
    Mutant("decode.hpp", " - inter) > threshold;", " - inter) >= threshold;"),
    Mutant("decode.hpp", "inter / (area(a) + area(b) - inter)", "inter / (area(a) + area(b))"),
    Mutant("decode.hpp", "std::max(a[0], b[0]), 0.0f)", "a[0], 0.0f)"),
    Mutant("decode.hpp", "    if (dropped) continue;\n", ""),
    Mutant("decode.hpp", "if (faces.size() == static_cast<std::size_t>(spec.max_faces)) break;", ""),
    Mutant("decode.hpp", "std::min(std::max(candidate.box[i], 0.0f), limits[i])", "std::max(candidate.box[i], 0.0f)"),
    Mutant("decode.hpp", "      finite = finite && std::isfinite(value);\n", ""),
    Mutant("letterbox.hpp", "image * scale + 0.5), 1, most", "image * scale), 1, most"),
    Mutant("letterbox.hpp", "(side * part + unit - 1) / unit * 32", "(side * part + unit) / unit * 32"),
    Mutant("letterbox.hpp", "std::pair(7, 10), ", ""),
    Mutant("letterbox.hpp", "(i + 0.5) * step - 0.5", "i * step"),
    Mutant("letterbox.hpp", "clamp_weights && (index < 0", "(index < 0"),
    Mutant("letterbox.hpp", "std::lrint(fraction * 2048.0f)", "std::lrint(fraction * 2000.0f)"),
    Mutant("letterbox.hpp", "lower[left] + lower[right] + 2) >> 2", "lower[left] + lower[right]) >> 2"),
    Mutant(
        "letterbox.hpp", "antialias && source_.height >= 2 * size_.rows", "antialias && source_.height > 2 * size_.rows"
    ),
    Mutant("letterbox.hpp", "if (second != lower_row_) detail", "if (lower_row_ < 0) detail"),
    Mutant("letterbox.hpp", "static_cast<double>(scale) + 0.5)", "static_cast<double>(scale) + 0.4)"),
    Mutant("letterbox.hpp", "std::floor(mean + 0.5)", "std::floor(mean)"),
    Mutant("letterbox.hpp", "source_columns - (L::kStep == 3 ? 3 : 2)", "source_columns - 2", sanitize=True),
    Mutant("letterbox.hpp", "_mm_shuffle_epi32(sum, _MM_SHUFFLE(3, 0, 1, 2))", "sum"),
    Mutant("letterbox.hpp", "if constexpr (L::kAt[0] == 2) {", "if constexpr (L::kAt[0] == 3) {"),
    Mutant("letterbox.hpp", "column + 4 <= columns", "column + 2 <= columns", sanitize=True),
    Mutant("letterbox.hpp", "_mm_add_epi16(left, right), two)", "_mm_add_epi16(left, right), zero)"),
    Mutant("zip_tail.hpp", "detail::crc32(*result) != detail::u32(file, at + 16)", "false"),
    Mutant("zip_tail.hpp", "failed_ || distance > out_.size() || ", "failed_ || ", sanitize=True),
    Mutant("zip_tail.hpp", "  if (!detail::inside(file, start, packed)) return std::nullopt;\n", "", sanitize=True),
    Mutant("json.hpp", "depth > kMaxDepth", "depth > 1000000"),
    Mutant("spec.hpp", "value.whole && value.number > 0", "value.number > 0"),
    Mutant("spec.hpp", "stride > spec.strides.back()", "stride >= spec.strides.back()"),
)


def write_mutant(mutant: Mutant, folder: Path) -> Path:
    """A copy of cpp/ with the change; its headers' folder."""
    shutil.copytree(build.ROOT / "cpp", folder)
    path = folder / "include" / "retinaface" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.file}: {mutant.old!r} occurs {text.count(mutant.old)} times, expected once")
    path.write_text(text.replace(mutant.old, mutant.new))
    return folder


def first_failure(file: str, driver: build.Driver, folder: Path) -> str | None:
    """Name of the first check of what is in a header that fails; None when all pass."""
    checks: dict[str, list[tuple[str, Callable[[], None]]]] = {
        "decode.hpp": [
            ("the largest box", lambda: arithmetic.test_the_largest_box(driver, folder)),
            ("scores around the threshold", lambda: arithmetic.test_scores_around_the_threshold(driver, folder)),
            ("golden vectors", lambda: arithmetic.test_golden_vectors(driver, build.ROOT, folder)),
            ("golden meshes", lambda: arithmetic.test_golden_meshes(driver, build.ROOT, folder)),
        ],
        "mesh.hpp": [
            ("golden meshes", lambda: arithmetic.test_golden_meshes(driver, build.ROOT, folder)),
            ("models with a mesh", lambda: strangers.test_bases_of_models(driver, folder)),
        ],
        "letterbox.hpp": [
            ("shapes", lambda: arithmetic.test_shapes(driver, build.ROOT, folder)),
            ("golden tables", lambda: arithmetic.test_golden_tables(driver, build.ROOT, folder)),
            ("inputs", lambda: arithmetic.test_inputs_of_every_size_and_order(driver, folder, "noise")),
        ],
        "": [
            ("a changed byte", lambda: strangers.test_a_changed_byte(driver, folder)),
            ("strides", lambda: strangers.test_strides_that_do_not_increase(driver, folder)),
            ("what asks for too much", lambda: strangers.test_archives_that_ask_for_too_much(driver, folder)),
            ("deflated metadata", lambda: strangers.test_deflated_metadata(driver, folder)),
            ("damaged metadata", lambda: strangers.test_metadata_of_damaged_models(driver, folder)),
        ],
    }
    for name, check in checks.get(file, checks[""]):
        try:
            check()
        except AssertionError:
            return name
    return None


def compiled(headers: Path, sanitize: bool) -> build.Driver:
    return build.Driver(
        build.compiled("g++", "tests/cpp/driver.cpp", "-O0", "-Wno-error", headers=headers, sanitize=sanitize)
    )


def main() -> None:
    survivors = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unchanged = compiled(build.ROOT / "cpp", True)
        for file in ("decode.hpp", "letterbox.hpp", "mesh.hpp", ""):
            if failed := first_failure(file, unchanged, folder):
                sys.exit(f"mutation: the unchanged code fails already: {failed}")
        for i, mutant in enumerate(MUTANTS):
            driver = compiled(write_mutant(mutant, folder / str(i)), mutant.sanitize)
            killer = first_failure(mutant.file, driver, folder)
            survivors += killer is None
            verdict = f"killed by {killer}" if killer else "SURVIVED"
            print(f"{mutant.file}: {mutant.old.strip()} → {mutant.new or '(nothing)'}: {verdict}", flush=True)
            driver.program.unlink()
    print(f"{len(MUTANTS)} mutants, {survivors} survived")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
