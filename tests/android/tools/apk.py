"""The app as a signed APK without Gradle and SDK: type-check, resources, R8, package, align, sign.

    python tests/android/tools/apk.py --model M.tflite --output demo.apk

What comes out proves that everything of this repository fits together. LiteRT is not inside: its library is not on the
package registries used here, and the compiler sees the stubs beside this file instead. On a phone it starts and
says so.
"""

from __future__ import annotations

import shutil
import struct
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from absl import app, flags
from toolchain import (
    BUILD,
    DEMO,
    HERE,
    JAVA_OPTIONS,
    ROOT,
    Command,
    ToolError,
    Tools,
    cache_dir,
    classpath,
    find_tools,
    fingerprint,
    kotlin_files,
    kotlinc,
    need,
    need_command,
    run,
)

PACKAGE = "org.retinaface.demo"
MIN_SDK, TARGET_SDK = 26, 36
VERSION_CODE, VERSION_NAME = 1, "0.1.0"
# Of the jar that Gradle publishes for its versions around 9.4; npm's @react-native-community/template 0.87.2 has it.
WRAPPER_SHA256 = "55243ef57851f12b070ad14f7f5bb8302daceeebc5bce5ece5fa6edb23e1145c"
MODEL_ASSET = "assets/retinaface.tflite"
LICENCES_ASSET = "assets/licences.txt"
LICENCES = ("LICENSE", "NOTICE", "web_demo/Apache-2.0.txt")

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "The .tflite file to put into the APK.", required=True)
flags.DEFINE_string("output", None, "The APK to write.", required=True)


@dataclass(frozen=True)
class ApkTools:
    """Paths of what the APK needs beyond the JVM tools; android_jar has the members of newer_api.txt."""

    android_jar: Path
    framework: Path
    r8: Path
    aapt: str
    aapt2: str
    zipalign: str
    apksigner: str
    javac: str
    keytool: str


def find_apk_tools() -> ApkTools:
    """The tools of the APK step.

    Raises:
        ToolError: one is missing.
    """
    return ApkTools(
        android_jar=platform_jar("newer"),
        framework=need(Path("/usr/share/android-framework-res/framework-res.apk")),
        r8=need(cache_dir() / "bundletool.jar"),
        **{name: need_command(name) for name in ("aapt", "aapt2", "zipalign", "apksigner", "javac", "keytool")},
    )


def platform(*arguments: str | Path) -> str:
    """Run Platform.java; what it printed.

    Raises:
        ToolError: it, or what it needs, is missing or failed.
    """
    source, asm = HERE / "Platform.java", need(cache_dir() / "asm.jar")
    classes = BUILD / f"platform-{fingerprint([source])}"
    if not classes.is_dir():
        partial = classes.with_name(f"partial-{classes.name}")
        run([need_command("javac"), "-cp", asm, "-d", partial, source])
        partial.rename(classes)
    return run([need_command("java"), "-Xmx512m", "-cp", classpath(classes, asm), "Platform", *arguments])


def platform_jar(kind: str) -> Path:
    """android.jar of API 23 with what newer_api.txt lists: "newer" to compile against, "mock" to run against.

    Raises:
        ToolError: something it is made with is missing.
    """
    source, listed = need(cache_dir() / "android-23.jar"), HERE / "newer_api.txt"
    jar = BUILD / f"android-{kind}-{fingerprint([listed, HERE / 'Platform.java'])}.jar"
    if not jar.exists():
        BUILD.mkdir(exist_ok=True)
        partial = jar.with_name(f"partial-{jar.name}")
        platform(kind, source, listed, partial)
        partial.rename(jar)
    return jar


def link_resources(tools: ApkTools, work: Path, assets: Path | None = None) -> None:
    """Compile and link resources, manifest and assets into work/base.apk, R.java (work/gen) and the keep rules.

    Raises:
        ToolError: aapt2's messages.
    """
    source = DEMO / "app" / "src" / "main"
    # Gradle takes the package from its own files; aapt2 wants it in the manifest.
    manifest = (source / "AndroidManifest.xml").read_text()
    (work / "AndroidManifest.xml").write_text(manifest.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1))
    run([tools.aapt2, "compile", "--dir", source / "res", "-o", work / "resources.zip"])
    options = f"--min-sdk-version {MIN_SDK} --target-sdk-version {TARGET_SDK}"
    options += f" --version-code {VERSION_CODE} --version-name {VERSION_NAME}"
    # The dot matters: "-0 tflite" is accepted too and deflates the model all the same.
    options += " -0 .tflite"
    # Debian's aapt2 is older than <uses-native-library>; it passes on what it does not know, with a warning.
    options += " --warn-manifest-validation"
    made: Command = ["--java", work / "gen", "--proguard", work / "rules.pro", "-o", work / "base.apk"]
    given: Command = ["--manifest", work / "AndroidManifest.xml", *(["-A", assets] if assets else [])]
    said = run([tools.aapt2, "link", "-I", tools.framework, *options.split(), *made, *given, work / "resources.zip"])
    if wrong := [line for line in said.splitlines() if "<uses-native-library>" not in line]:
        raise ToolError("aapt2 warns:\n" + "\n".join(wrong))


def copy_assets(model: Path, folder: Path) -> None:
    """What Gradle's task copyAssets puts into the app."""
    folder.mkdir()
    shutil.copyfile(model, folder / Path(MODEL_ASSET).name)
    text = "\n\n".join((ROOT / name).read_text() for name in LICENCES)
    (folder / Path(LICENCES_ASSET).name).write_text(text)


@dataclass(frozen=True)
class App:
    """Core and app (`jar`), the app's R classes and LiteRT's stubs (`java`), what R8 must keep (`rules`)."""

    jar: Path
    java: Path
    rules: Path


def compile_app(jvm: Tools, tools: ApkTools) -> App:
    """Compile stubs and R with javac, then core and app against android.jar and nothing of the JDK; once per change.

    Raises:
        ToolError: the compilers' messages.
    """
    sources = kotlin_files("core/src/main", "app/src/main")
    resources = sorted(path for path in (DEMO / "app" / "src" / "main").rglob("*.xml"))
    stubs = sorted((HERE / "stubs").rglob("*.java"))
    folder = BUILD / f"app-{fingerprint([*sources, *resources, *stubs], tools.android_jar, jvm.kotlinc)}"
    if not folder.is_dir():
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="partial-") as name:
            work = Path(name)
            link_resources(tools, work)
            java = [*stubs, *sorted((work / "gen").rglob("*.java"))]
            run([tools.javac, "-Xlint:-options", "-source", "8", "-target", "8", "-d", work / "java", *java])
            jars = (tools.android_jar, work / "java", jvm.gson)
            kotlinc(jvm, sources, jars, work / "app.jar", "-no-jdk")
            shutil.copytree(work, folder.with_name(f"partial-{folder.name}"), dirs_exist_ok=True)
        folder.with_name(f"partial-{folder.name}").rename(folder)
    return App(folder / "app.jar", folder / "java", folder / "rules.pro")


def shrink(jvm: Tools, tools: ApkTools, app: App, work: Path) -> str:
    """R8: app, Gson and Kotlin's library to work/dex/classes.dex; a reference to a class that is nowhere is an error.

    Raises:
        ToolError: R8's messages.
    """
    (work / "dex").mkdir()
    options = f"--release --min-api {MIN_SDK}".split()
    files: Command = ["--pg-conf", app.rules, "--lib", tools.android_jar, "--classpath", work / "stubs.jar"]
    inputs = (app.jar, jvm.gson, jvm.stdlib, jvm.stdlib.with_name("annotations-13.0.jar"))
    java: Command = [jvm.java, *JAVA_OPTIONS, "-cp", tools.r8, "com.android.tools.r8.R8"]
    return run([*java, *options, *files, "--output", work / "dex", *inputs])


def sign(tools: ApkTools, work: Path) -> Path:
    """Add the code, align, sign with a throw-away key; the APK's path.

    Raises:
        ToolError: a tool's messages.
    """
    with zipfile.ZipFile(work / "base.apk", "a") as apk:
        apk.write(work / "dex" / "classes.dex", "classes.dex", zipfile.ZIP_DEFLATED)
    run([tools.zipalign, "-f", "-p", "4", work / "base.apk", work / "aligned.apk"])
    store = work / "debug.keystore"
    key = "-genkeypair -storepass android -alias debug -dname CN=debug -keyalg RSA -keysize 2048 -validity 10000"
    run([tools.keytool, *key.split(), "-keystore", store])
    options = f"sign --ks-pass pass:android --min-sdk-version {MIN_SDK}"
    run([tools.apksigner, *options.split(), "--ks", store, "--out", work / "signed.apk", work / "aligned.apk"])
    return work / "signed.apk"


def jar_stubs(app: App, work: Path) -> None:
    """The stub classes alone: what R8 may refer to but not put into the APK."""
    with zipfile.ZipFile(work / "stubs.jar", "w") as jar:
        for path in sorted((app.java / "org" / "tensorflow").rglob("*.class")):
            jar.write(path, path.relative_to(app.java).as_posix())


def build_apk(jvm: Tools, tools: ApkTools, model: Path, output: Path) -> None:
    """Everything, into `output`, complete or not at all.

    Raises:
        ToolError: a step failed; the message is what its tool printed.
    """
    BUILD.mkdir(exist_ok=True)
    app = compile_app(jvm, tools)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="apk-") as name:
        work = Path(name)
        copy_assets(model, work / "assets")
        link_resources(tools, work, work / "assets")
        jar_stubs(app, work)
        shrink(jvm, tools, app, work)
        partial = output.with_name(f"partial-{output.name}")
        shutil.copyfile(sign(tools, work), partial)
        partial.replace(output)


def dex_types(dex: bytes) -> tuple[set[str], set[str]]:
    """Names of the classes that a dex file refers to and of those that it defines, as "java/lang/String".

    Source: the "Dalvik executable format" layout: tables of strings, types and classes, found through the header.
    """

    def table(at: int) -> tuple[int, int]:
        count, offset = struct.unpack_from("<II", dex, at)
        return count, offset

    strings, types, classes = table(56), table(64), table(96)

    def string(index: int) -> str:
        (at,) = struct.unpack_from("<I", dex, strings[1] + 4 * index)
        while dex[at] & 0x80:  # the length in front, in 7-bit groups
            at += 1
        return dex[at + 1 : dex.index(0, at + 1)].decode("utf-8", "replace")

    names = [string(struct.unpack_from("<I", dex, types[1] + 4 * i)[0]) for i in range(types[0])]
    defined = {names[struct.unpack_from("<I", dex, classes[1] + 32 * i)[0]] for i in range(classes[0])}
    plain = {name.lstrip("[") for name in names}
    return {n[1:-1] for n in plain if n.startswith("L")}, {n[1:-1] for n in defined}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    model, output = Path(FLAGS.model), Path(FLAGS.output)
    try:
        build_apk(find_tools(), find_apk_tools(), need(model), output)
    except (ToolError, OSError) as error:
        sys.exit(f"apk: {error}")
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    app.run(main)
