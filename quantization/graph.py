"""A network as int8 sees it: which layer reads which, which outputs are int8 tensors of their own, and copies of it
with other layers."""

from __future__ import annotations

from dataclasses import dataclass

import tf_keras as keras

from rf_keras.backbones import Tensor
from rf_keras.config import ModelConfig
from rf_keras.graph import call, parents, rebuild
from rf_keras.model import output_names

layers = keras.layers
Ranges = dict[str, tuple[float, float]]  # range name (`range_keys`) → low, high in the tensor's own units
Readers = dict[str, list[keras.layers.Layer]]

INPUT = "image"
CONVS = (layers.Conv2D, layers.DepthwiseConv2D)
ACTIVATIONS = (layers.ReLU, layers.LeakyReLU)
# Layers that only move values: TFLite demands the same scale before and after them.
SAME_SCALE = (layers.ZeroPadding2D, layers.UpSampling2D, layers.MaxPooling2D)


def consumers(model: keras.Model) -> Readers:
    """Layers that read each layer's output, by the name of the layer they read."""
    readers: Readers = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            for name in parents(layer):
                readers[name].append(layer)
    return readers


def copy_layer(layer: keras.layers.Layer, sources: list[Tensor]) -> Tensor:
    """The same layer with the same weights on new inputs."""
    if isinstance(layer, layers.InputLayer):
        return sources[0]
    clone = type(layer).from_config(layer.get_config())
    output = call(clone, sources)
    clone.set_weights(layer.get_weights())
    return output


def range_keys(model: keras.Model, readers: Readers) -> dict[str, str]:
    """Which layers' outputs are int8 tensors of their own, and the name of the range each uses.

    Args:
        model: folded (`fold.fold`).
        readers: its `consumers`.

    Returns:
        layer name → range name, in topological order. A conv or Add whose only reader is a ReLU is missing (TFLite
        fuses the two), layers that only move values are too; the inputs of a concat share the concat's range, because
        TFLite needs one scale there and would requantize otherwise.
    """
    keys: dict[str, str] = {}
    for layer in model.layers:
        following = readers[layer.name]
        fused = len(following) == 1 and isinstance(following[0], layers.ReLU)
        if isinstance(layer, SAME_SCALE) or (fused and not isinstance(layer, layers.InputLayer)):
            continue
        concat = next((reader for reader in following if isinstance(reader, layers.Concatenate)), None)
        keys[layer.name] = layer.name if concat is None else concat.name
    return keys


@dataclass(frozen=True, eq=False)
class FoldedNetwork:
    """A folded network (`fold.fold`), and what every step of quantization asks about it.

    Attributes:
        model: Functional: input float32 [B, H, W, 3] BGR − mean, nine outputs.
        config: its configuration, of one class logit.
        readers: layer name → layers that read its output.
        keys: layer name → name of its output's range (`range_keys`).
    """

    model: keras.Model
    config: ModelConfig
    readers: Readers
    keys: dict[str, str]

    @classmethod
    def of(cls, model: keras.Model, config: ModelConfig) -> FoldedNetwork:
        """Describe a folded model."""
        readers = consumers(model)
        return cls(model, config, readers, range_keys(model, readers))

    @property
    def convs(self) -> list[keras.layers.Layer]:
        """Its convolutions, in topological order."""
        return [layer for layer in self.model.layers if isinstance(layer, CONVS)]

    def copy(self, height: int | None = None, width: int | None = None) -> FoldedNetwork:
        """The same network with weights of its own, for inputs of `height` × `width` pixels; None leaves it open."""
        return FoldedNetwork.of(rebuild(self.model, copy_layer, height, width), self.config)


def signature_names(config: ModelConfig) -> list[str]:
    """Names of the outputs in a .tflite, in the model's order: score_8 … landmark_32, then mesh_8 … if it has them."""
    return [name.replace("class", "score") for name in output_names(config)]
