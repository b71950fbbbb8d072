from tests.quantization.conftest import folded, images, photos, ranges, tiny, weights_file
from tests.tflite.conftest import model_dir

__all__ = ["folded", "images", "model_dir", "photos", "ranges", "tiny", "weights_file"]
