"""Change one thing in the Kotlin core at a time: unit tests or parity tests must notice every change.

    python tests/android/mutation.py

Prints a line per mutant with the test that killed it; exits with 1 if one survives. Takes some minutes, thus not
part of `make test-android`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import conftest  # noqa: F401  (sets the import path)
import test_android_parity as parity
import toolchain

ROOT = Path(__file__).resolve().parent.parent.parent
CORE = "core/src/main/kotlin/org/retinaface/core"


@dataclass(frozen=True)
class Mutant:
    """One replacement in one file of the core; `old` occurs there exactly once."""

    file: str
    old: str
    new: str


MUTANTS = (
    Mutant("Decode.kt", "spec.variances[0].toFloat()", "0.11f"),
    Mutant("Decode.kt", "spec.variances[1].toFloat()", "spec.variances[0].toFloat()"),
    Mutant("Decode.kt", "ln(1000.0 / 16)", "ln(1000.0 / 15)"),
    Mutant("Decode.kt", "* 0.5f", "* 0.4999f"),
    Mutant("Decode.kt", "dequantize(it, scale, zeroPoint) >= wanted", "dequantize(it, scale, zeroPoint) > wanted"),
    Mutant("Decode.kt", "raw.get(i) >= least", "raw.get(i) > least"),
    Mutant("Decode.kt", "raw.getFloat(i * 4) >= least", "raw.getFloat(i * 4) >= least + 0.01f"),
    Mutant("Decode.kt", "(quantized.toFloat() - zeroPoint.toFloat()) * scale", "quantized.toFloat() * scale"),
    Mutant("Decode.kt", "anchors[anchor * 3 + i % 2]", "anchors[anchor * 3 + i / 5]"),
    Mutant("Decode.kt", "deltas[row * 10 + i] * centreVariance * size", "deltas[row * 10 + i] * sizeVariance * size"),
    Mutant("Decode.kt", "found.add(level.first + i)", "found.add(i)"),
    Mutant("Decode.kt", "orderByScore(logits).copyOf(most)", "IntArray(most) { it }"),
    Mutant("Decode.kt", "allFinite(boxes, k * 4, 4) && ", ""),
    Mutant("Decode.kt", "ln(probability / (1 - probability))", "ln(probability / (1.001 - probability))"),
    Mutant("Anchors.kt", "((column + 0.5) * stride).toFloat()", "(column * stride).toFloat()"),
    Mutant("Anchors.kt", "((row + 0.5) * stride).toFloat()", "((row + 0.49) * stride).toFloat()"),
    Mutant("Nms.kt", "> threshold) {", ">= threshold) {"),
    Mutant("Nms.kt", "iouThreshold.toFloat()", "iouThreshold.toFloat() + 0.01f"),
    Mutant("Nms.kt", "keptAreas[k] + area - inter", "keptAreas[k] + area"),
    Mutant("Nms.kt", "or i.toLong()", "or (scores.size - i).toLong()"),
    Mutant("Nms.kt", "(scores[i] + 0f)", "scores[i]"),
    Mutant("Nms.kt", "if (bits >= 0) bits else bits xor Int.MAX_VALUE", "bits"),
    Mutant("Nms.kt", "val offset = pixelOffset.toFloat()", "val offset = 0f * pixelOffset"),
    Mutant("Nms.kt", "minOf(order.size, maxCandidates)", "order.size"),
    Mutant("Nms.kt", "maxOf(width, 0f) * maxOf(height, 0f)", "width * height"),
    Mutant("Nms.kt", "keptAreas[count++] = area", "keptAreas[count++] = area + 1f"),
    Mutant("Letterbox.kt", "minOf(inputHeight.toDouble() / imageHeight", "maxOf(inputHeight.toDouble() / imageHeight"),
    Mutant("Letterbox.kt", "(imageWidth * scale + 0.5)", "(imageWidth * scale)"),
    Mutant("Letterbox.kt", "((i + 0.5) * step - 0.5)", "(i * step)"),
    Mutant("Letterbox.kt", "second[i] = (index + 1)", "second[i] = index"),
    Mutant("Letterbox.kt", "const val ONE = 2048f", "const val ONE = 2000f"),
    Mutant("Letterbox.kt", "IntArray(inputWidth) { fill }", "IntArray(inputWidth)"),
    Mutant("Letterbox.kt", "if (second != lowerRow) scaleRow", "if (lowerRow < 0) scaleRow"),
    Mutant("Letterbox.kt", "var from = 2 * row * width", "var from = row * width"),
    Mutant("Letterbox.kt", "+ 0x20002", "+ 0x20001"),
    Mutant("Letterbox.kt", "((redBlue shr 2) and RED_BLUE)", "(redBlue shr 2)"),
    Mutant("Letterbox.kt", "((left shr 8) and 0xff) * weight0", "((left shr 16) and 0xff) * weight0"),
    Mutant("Letterbox.kt", "imageWidth shr count >= 2 * columns", "imageWidth shr count >= 3 * columns"),
    Mutant("Letterbox.kt", "for (row in rows until inputHeight)", "for (row in rows + 1 until inputHeight)"),
    Mutant("Mesh.kt", "2 * (w * k - i * j)", "2 * (i * j - w * k)"),
    Mutant("Mesh.kt", "2 * (i * k - w * j)", "2 * (i * k + w * j)"),
    Mutant("Mesh.kt", "-degrees(asin", "degrees(asin"),
    Mutant("Mesh.kt", "sqrt(width * height)", "width * height"),
    Mutant("Mesh.kt", "if (value.isNaN()) 0f else value.coerceIn(-LARGEST", "value.coerceIn(-LARGEST"),
    Mutant("Mesh.kt", "LARGEST_COEFFICIENT = 1e3f", "LARGEST_COEFFICIENT = 1e4f"),
    Mutant("Mesh.kt", "(anchor - level.first) * basis", "anchor * basis"),
    Mutant("Mesh.kt", "fraction.toFloat(), -24", "fraction.toFloat(), -23"),
    Mutant("Mesh.kt", "mesh[it] - middle[it % 3]", "mesh[it].toDouble()"),
    Mutant("Mesh.kt", "-sin(p) * cos(y)", "sin(p) * cos(y)"),
    Mutant("Mesh.kt", "if (!ZipTail.has(model, FILE)) return null", ""),
    Mutant("Postprocess.kt", "candidates.anchors[k], candidates.boxes, k * 4", "candidates.anchors[k], boxes, k * 4"),
    Mutant("Postprocess.kt", "candidates.landmarks[k * 10 + i] / factor", "candidates.landmarks[k * 10 + i] * factor"),
    Mutant("Postprocess.kt", "limits[i % 2])", "limits[0])"),
    Mutant("InputTable.kt", "value / info.scale.toDouble() + 0.5", "value / info.scale.toDouble() + 0.4"),
    Mutant("InputTable.kt", "red[(pixel shr 16) and 0xff]\n", "red[(pixel shr 8) and 0xff]\n"),
    Mutant("InputTable.kt", "out.putFloat(green[(pixel shr 8) and 0xff])", "out.putFloat(green[pixel and 0xff])"),
    Mutant("Shape.kt", "side * part + whole * MULTIPLE - 1", "side * part + whole * MULTIPLE"),
    Mutant("Shape.kt", "3 to 4, ", ""),
    Mutant("Shape.kt", "7 to 10, ", ""),
    Mutant("Shape.kt", "denominator >= numerator", "denominator > numerator"),
    Mutant("Shape.kt", "MULTIPLE = 32", "MULTIPLE = 64"),
    Mutant("Shape.kt", "imageWidth <= own.width.toLong()", "imageWidth >= own.width.toLong()"),
    Mutant("Yuv.kt", "91881 * v", "91881 * u"),
    Mutant("Yuv.kt", "- 22554 * u", "+ 22554 * u"),
    Mutant("Yuv.kt", "HALF + 116130 * u", "HALF + 106130 * u"),
    Mutant("Yuv.kt", "if (row % 2 == 0)", "if (row % 4 == 0)"),
    Mutant("Yuv.kt", "val i = column shr 1", "val i = column shr 2"),
    Mutant("Yuv.kt", "plane.start + row * plane.rowStride", "row * plane.rowStride"),
    Mutant("Yuv.kt", "origin = outWidth - 1", "origin = outWidth - 2"),
    Mutant("Yuv.kt", "minOf(maxOf(value shr 16, 0), 255)", "(value shr 16) and 0xff"),
    Mutant("Upright.kt", "2 -> turned(image, columns, rows, columns - 1, -1, columns)", "2 -> image"),
    Mutant("Upright.kt", "5 -> turned(image, rows, columns, 0, columns, 1)", "5 -> image"),
    Mutant("Upright.kt", "8 -> turned(image, rows, columns, columns - 1, columns, -1)", "8 -> upright(image, 6)"),
    Mutant("Upright.kt", "first + left * stepX + y * stepY", "first + left * stepX + top * stepY"),
    Mutant("Pixelate.kt", "MARGIN = 0.15f", "MARGIN = 0f"),
    Mutant("Pixelate.kt", "listOf(red, green, blue)", "listOf(red, red, red)"),
    Mutant("FaceDetector.kt", "if (fixed) spec.shape else autoShape", "autoShape"),
    Mutant("FaceDetector.kt", "                        model.resize(spec.shape)\n", ""),
    Mutant("CameraGeometry.kt", "(sensor - display + 360) % 360", "(sensor + display) % 360"),
    Mutant("CameraGeometry.kt", ">= shortSide", "> shortSide"),
    Mutant("CameraGeometry.kt", "nearest + SAME_ASPECT", "nearest + 1"),
    Mutant("Pool.kt", "free.size < most && free.add(item)", "free.add(item)"),
    Mutant("Pool.kt", "if (fits(item)) return item", "return item"),
    Mutant("Overlay.kt", "(if (mirrored) imageWidth - imageX else imageX)", "imageX"),
    Mutant("Json.kt", "reader.peek() == JsonToken.END_DOCUMENT", "true"),
    Mutant("ZipTail.kt", "&& crc.value.toInt() == bytes.getInt(central + 16)", ""),
    Mutant("ModelSpec.kt", "need(value % 32 == 0)", "need(value > 0)"),
    Mutant("FrameRate.kt", "window + 1", "window + 2"),
)


def write_mutant(mutant: Mutant, folder: Path) -> Path:
    """The changed file in `folder`.

    Raises:
        toolchain.ToolError: what it changes is not there, or more than once.
    """
    text = (toolchain.DEMO / CORE / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        raise toolchain.ToolError(f"{mutant.file}: {mutant.old!r} occurs {text.count(mutant.old)} times, expected once")
    folder.mkdir()
    source = folder / mutant.file
    source.write_text(text.replace(mutant.old, mutant.new))
    return source


def compile_mutants(original: toolchain.Jvm, folder: Path) -> list[Path]:
    """A folder of classes per mutant, those of the changed file only, all compiled by one JVM.

    Raises:
        toolchain.ToolError: one does not compile.
    """
    options = f"-nowarn -no-reflect -jvm-target {toolchain.JVM_TARGET} -Xfriend-paths={original.classes}"
    lines, results = [], []
    for i, mutant in enumerate(MUTANTS):
        source = write_mutant(mutant, folder / str(i))
        results.append(folder / str(i) / "classes")
        files = ["-cp", toolchain.classpath(original.classes, original.tools.gson), "-d", results[-1], source]
        lines.append("\t".join([*options.split(), *map(str, files)]))
    (folder / "lines.txt").write_text("\n".join(lines))
    jars = sorted(original.tools.stdlib.parent.glob("*.jar"))
    java: toolchain.Command = [original.tools.java, *toolchain.JAVA_OPTIONS, "-cp", toolchain.classpath(*jars)]
    toolchain.run([*java, toolchain.HERE / "CompileMany.java", folder / "lines.txt"], timeout=1800)
    return results


def with_changes(original: toolchain.Jvm, changed: Path, folder: Path) -> toolchain.Jvm:
    """The original's classes with the changed ones on top."""
    shutil.copytree(original.classes, folder)
    shutil.copytree(changed, folder, dirs_exist_ok=True)
    return toolchain.Jvm(original.tools, folder)


def first_failure(jvm: toolchain.Jvm, folder: Path) -> str | None:
    """Name of the first test that fails, cheapest first; None when all pass."""
    checks: list[tuple[str, Callable[[], object]]] = [
        ("unit tests", jvm.unit_tests),
        ("golden vectors", lambda: parity.test_golden_vectors(jvm, ROOT, folder)),
        ("golden meshes", lambda: parity.test_golden_meshes(jvm, ROOT, folder)),
        ("golden tables", lambda: parity.test_golden_tables(jvm, ROOT, folder)),
        ("golden shapes", lambda: parity.test_golden_shapes(jvm, ROOT, folder)),
        ("photos turned", lambda: parity.test_photos_are_turned_as_pillow_turns_them(jvm, folder)),
        ("NMS alone", lambda: parity.test_nms_alone(jvm, folder)),
        ("letterbox, noise", lambda: parity.test_letterbox_matches_opencv(jvm, folder, "noise", True)),
        ("letterbox, smooth", lambda: parity.test_letterbox_matches_opencv(jvm, folder, "smooth", False)),
        ("2,000 random outputs", lambda: parity.test_two_thousand_random_outputs(jvm, folder)),
    ]
    for name, check in checks:
        try:
            check()
        except AssertionError:
            return name
        except toolchain.ToolError:
            return name if check == jvm.unit_tests else f"{name} (crashed)"
    return None


def main() -> None:
    original = toolchain.compile_jvm(toolchain.find_tools())
    with tempfile.TemporaryDirectory() as name:
        if failed := first_failure(original, Path(name)):
            sys.exit(f"mutation: the unchanged code fails already: {failed}")
    survivors = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, (mutant, changed) in enumerate(zip(MUTANTS, compile_mutants(original, folder), strict=True)):
            killer = first_failure(with_changes(original, changed, folder / str(i) / "all"), folder)
            survivors += killer is None
            verdict = f"killed by {killer}" if killer else "SURVIVED"
            print(f"{mutant.file}: {mutant.old} → {mutant.new or '(nothing)'}: {verdict}", flush=True)
    print(f"{len(MUTANTS)} mutants, {survivors} survived")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
