"""The signed APK, built without Gradle and SDK. Without a tool of it these tests skip and say so; in CI they fail."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import apk
import pytest
import toolchain


@pytest.fixture(scope="session")
def package(
    tools: toolchain.Tools, apk_tools: apk.ApkTools, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The APK, built once."""
    output = tmp_path_factory.mktemp("apk") / "demo.apk"
    apk.build_apk(tools, apk_tools, model, output)
    return output


def test_badging(apk_tools: apk.ApkTools, package: Path) -> None:
    badging = toolchain.run([apk_tools.aapt, "dump", "badging", package])
    assert f"package: name='{apk.PACKAGE}' versionCode='{apk.VERSION_CODE}'" in badging
    assert f"sdkVersion:'{apk.MIN_SDK}'" in badging and f"targetSdkVersion:'{apk.TARGET_SDK}'" in badging
    assert f"launchable-activity: name='{apk.PACKAGE}.MainActivity'" in badging
    assert re.findall(r"uses-permission: name='(.+)'", badging) == ["android.permission.CAMERA"]
    # The permission alone would make the store hide the app from tablets with a front camera only.
    assert "uses-feature-not-required: name='android.hardware.camera'" in badging


def test_signature_and_alignment(apk_tools: apk.ApkTools, package: Path) -> None:
    verdict = toolchain.run([apk_tools.apksigner, "verify", "--verbose", package])
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in verdict
    toolchain.run([apk_tools.zipalign, "-c", "-p", "4", package])


def test_changed_apk_does_not_verify(apk_tools: apk.ApkTools, package: Path, tmp_path: Path) -> None:
    data = bytearray(package.read_bytes())
    data[data.index(b"TFL3")] ^= 1
    (tmp_path / "changed.apk").write_bytes(data)
    with pytest.raises(toolchain.ToolError, match="DOES NOT VERIFY"):
        toolchain.run([apk_tools.apksigner, "verify", tmp_path / "changed.apk"])


def test_size(package: Path) -> None:
    """Without LiteRT, whose library takes some megabytes per architecture."""
    assert package.stat().st_size <= 1_500_000


def test_licences_are_inside(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        text = archive.read(apk.LICENCES_ASSET).decode()
    for part in (
        "MIT License",
        "LiteRT (Google): Apache-2.0",
        "Gson",
        "Apache License\n",
        "END OF TERMS AND CONDITIONS",
    ):
        assert part in text, part


def test_model_is_stored_and_byte_equal(package: Path, model: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        entry = archive.getinfo(apk.MODEL_ASSET)
        assert entry.compress_type == zipfile.ZIP_STORED
        assert archive.read(entry) == model.read_bytes()


def test_no_reference_leads_nowhere(apk_tools: apk.ApkTools, package: Path) -> None:
    """Every class the code names is in it, in Android, or in LiteRT's interface, whose stub must stay outside."""
    with zipfile.ZipFile(package) as archive:
        named, defined = apk.dex_types(archive.read("classes.dex"))
    with zipfile.ZipFile(apk_tools.android_jar) as jar:
        platform = {name.removesuffix(".class") for name in jar.namelist() if name.endswith(".class")}
    missing = named - defined - platform
    assert missing and all(name.startswith("org/tensorflow/lite/") for name in missing), missing
    assert {"org/retinaface/demo/MainActivity", "org/retinaface/demo/OverlayView"} <= defined


def test_the_gpu_delegate_may_load_opencl(apk_tools: apk.ApkTools, package: Path) -> None:
    tree = toolchain.run([apk_tools.aapt2, "dump", "xmltree", "--file", "AndroidManifest.xml", package])
    libraries = re.findall(r"E: uses-native-library .*\n.*:name\(.*\)=\"(.+?)\".*\n.*:required\(.*\)=false", tree)
    assert libraries == ["libOpenCL.so", "libOpenCL-car.so", "libOpenCL-pixel.so"], tree


def test_gradle_wrapper_is_the_published_one() -> None:
    """The jar runs on whoever builds: it and what it downloads are pinned, and CI for forks checks the same sum."""
    folder = toolchain.DEMO / "gradle" / "wrapper"
    assert hashlib.sha256((folder / "gradle-wrapper.jar").read_bytes()).hexdigest() == apk.WRAPPER_SHA256
    assert f'"{apk.WRAPPER_SHA256}  gradle/wrapper/' in (toolchain.ROOT / ".github/workflows/android.yml").read_text()
    properties = (folder / "gradle-wrapper.properties").read_text()
    assert re.search(r"^distributionSha256Sum=[0-9a-f]{64}$", properties, re.MULTILINE)
    assert re.search(r"^distributionUrl=https\\://services\.gradle\.org/", properties, re.MULTILINE)
    assert os.access(toolchain.DEMO / "gradlew", os.X_OK)
    ignored = (toolchain.ROOT / ".gitignore").read_text().split()
    assert {".gradle/", "local.properties"} <= set(ignored)


def test_gradle_files_say_the_same(tools: toolchain.Tools) -> None:
    """Gradle cannot run here, so what both builds state is compared."""
    demo = toolchain.DEMO
    kotlin = re.search(r'^kotlin = "(.+)"$', (demo / "gradle" / "libs.versions.toml").read_text(), re.MULTILINE)
    assert kotlin and kotlin[1] == (tools.kotlinc.parent.parent / "build.txt").read_text().split("-")[0].strip()
    script = (demo / "app" / "build.gradle.kts").read_text()
    named = re.search(r"licences = listOf\((.+)\)\.map", script)
    assert named and re.findall(r'"\.\./(.+?)"', named[1]) == list(apk.LICENCES)
    for line in (
        f'namespace = "{apk.PACKAGE}"',
        f'applicationId = "{apk.PACKAGE}"',
        f"minSdk = {apk.MIN_SDK}",
        f"targetSdk = {apk.TARGET_SDK}",
        f"versionCode = {apk.VERSION_CODE}",
        f'versionName = "{apk.VERSION_NAME}"',
        f"JavaVersion.VERSION_{toolchain.JVM_TARGET}",
        'abiFilters += listOf("arm64-v8a", "x86_64")',
        'noCompress += "tflite"',
    ):
        assert line in script, line


def test_command_line(tmp_path: Path) -> None:
    """A wrong model is one clear line and no file."""
    script = toolchain.HERE / "apk.py"
    command = [sys.executable, str(script), f"--model={tmp_path / 'none.tflite'}", f"--output={tmp_path / 'x.apk'}"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("apk: ") and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "x.apk").exists()
