"""Device-side RetinaFace runtime: NumPy, one TFLite interpreter and an image reader; never TensorFlow."""
