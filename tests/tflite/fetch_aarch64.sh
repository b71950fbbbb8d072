#!/usr/bin/env bash
# Fetches what tests/tflite/test_aarch64.py needs: qemu-user, an arm64 Python 3.11 of Debian 12 and the arm64 wheels of the
# base install, all unpacked into one folder; nothing is installed on this machine. Needs apt-get, dpkg-deb and pip.
set -euo pipefail
folder=${RETINAFACE_AARCH64:-${XDG_CACHE_HOME:-$HOME/.cache}/retinaface-keras/aarch64}
[ -e "$folder/complete" ] && exit 0
rm -rf "$folder"
mkdir -p "$folder"/{lists/partial,cache/archives/partial,debs,rootfs,site}
cd "$folder"

# An apt of its own for arm64: the machine's architectures and package lists stay as they are.
: >status
arm64=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::Lists="$folder/lists"
    -o Dir::Cache="$folder/cache" -o Dir::State::status="$folder/status" -qq)
apt-get "${arm64[@]}" update
(cd debs && apt-get "${arm64[@]}" download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
    libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 libuuid1 &&
    apt-get -qq download qemu-user-static)
for deb in debs/*_arm64.deb; do dpkg-deb -x "$deb" rootfs; done
dpkg-deb --fsys-tarfile debs/qemu-user-static_*.deb | tar -xO ./usr/bin/qemu-aarch64-static >qemu-aarch64
chmod +x qemu-aarch64

# ai-edge-litert 2.3.0 crashes under the qemu 7.2 of Debian 12.
platforms=(--platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64
    --platform manylinux_2_28_aarch64 --platform manylinux_2_34_aarch64 --platform manylinux_2_35_aarch64)
"${PYTHON:-python3}" -m pip install --quiet --target site --only-binary=:all: --python-version 3.11 --implementation cp \
    "${platforms[@]}" "numpy<2.4" ai-edge-litert==1.4.0 opencv-python-headless pillow absl-py
rm -rf lists cache debs status
touch complete
