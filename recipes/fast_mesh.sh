#!/usr/bin/env bash
# A mesh branch for `fast`: dense faces and head poses from the same pass, its boxes, scores and points unchanged.
#
#     bash recipes/fast_mesh.sh WEIGHTS DATA PICTURES OUTPUT
#
# WEIGHTS   of quantization-aware tuning, as retinaface_fast_qat.keras
# DATA      folder with wider/train, groups and scenes, labelled
# PICTURES  folder with portraits, crowds and street, labelled by recipes/pictures.py
# OUTPUT    folder for what is made
#
# 35 minutes on two cores, the teacher's answers included.
set -eu
weights=$1 data=$2 pictures=$3 output=$4
cd "$(dirname "$0")/.."
mkdir -p "$output"

python quantization/train_mesh.py --weights "$weights" --windows 8 --epochs 24 --output "$output/mesh.keras" \
    --data_dir "$data/wider/train" --data_dir "$pictures/portraits" --data_dir "$data/groups" \
    --data_dir "$pictures/crowds" --data_dir "$pictures/street" --data_dir "$data/scenes"
python -m rf_keras.publish --weights "$output/mesh.keras" --significant_bits 10 \
    --output "$output/retinaface_fast_mesh_qat.keras"
python quantization/convert.py --int8 --weights "$output/retinaface_fast_mesh_qat.keras" --size 640 \
    --output "$output/retinaface_fast_mesh_640_int8.tflite"
