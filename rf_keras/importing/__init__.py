"""Weights of other RetinaFace releases: readers, the check which network they fit, and the way into a Keras model."""
