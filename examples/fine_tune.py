"""Photos of one's own to an int8 file: python examples/fine_tune.py WEIGHTS TRAIN VAL OUTPUT [SIZE [EPOCHS STEPS]]

TRAIN and VAL are folders of labelled photos (docs/training.md), OUTPUT is a new folder for all that is made. EPOCHS of
training and STEPS of tuning for int8 are 20 and 900 unless given.
"""

import sys
from pathlib import Path

from quantization import compare, convert, qat
from rf_keras import evaluate, train

weights, photos, held_out, output = map(Path, sys.argv[1:5])
size, epochs, steps = (*map(int, sys.argv[5:]), *(640, 20, 900)[len(sys.argv) - 5 :])
run, tuned, model = output / "run", output / "int8", output / "model.tflite"

settings = {"init": str(weights), "size": size, "epochs": epochs}
train.run(train.Options(data_dir=(photos,), run_dir=run, settings=settings))
qat.run(qat.Options(weights=run, data_dir=(photos,), run_dir=tuned, settings={"steps": steps}))
convert.run(convert.Options(int8=True, weights=tuned, output=model))
metrics = evaluate.run(evaluate.Options(model=model, data_dir=held_out, closeups=True))
page = output / "report.html"
compare.run(compare.Options(weights=run / "best.keras", models=(model,), data_dir=held_out, output=page))
print(f"{model}: AP {metrics['all']:.1f} %, threshold {metrics['large']['threshold']}; {page} sets it beside float")
