"""Which activation and anchor sizes do weights belong to? Files do not say; a wrong answer loads and finds no faces."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rf_keras.config import ACTIVATIONS, REFERENCE_ANCHORS, SMALL_ANCHORS, Anchors, ModelConfig, format_anchors
from rf_keras.evaluation.scoring import evaluate_keras
from rf_keras.importing.source_weights import ImportWeightsError, SourceWeights, load_convs
from rf_keras.input_size import InputSize
from rf_keras.labels import Sample
from rf_keras.model import build_model

CHECK_SIZE = 320
CLEAR_MARGIN = 5.0  # AP points
CLEAR_AP = 20.0  # percent


@dataclasses.dataclass(frozen=True)
class Fit:
    """AP in percent that the weights reach as one network."""

    activation: str
    anchor_sizes: Anchors
    ap: float

    def __str__(self) -> str:
        return f"{self.activation}, anchors {format_anchors(self.anchor_sizes)}: AP {self.ap:.1f}"


def try_fits(source: SourceWeights, samples: Sequence[Sample], anchor_sizes: Anchors | None = None) -> list[Fit]:
    """Try every activation with every known set of anchors, best first.

    Args:
        source: the weights; where it tells its activation only that is tried.
        samples: labelled images to find faces in.
        anchor_sizes: sizes to try besides the known ones.
    """
    activations = [source.activation] if source.activation else list(ACTIVATIONS)
    sizes = list(dict.fromkeys([*([anchor_sizes] if anchor_sizes else []), REFERENCE_ANCHORS, SMALL_ANCHORS]))
    fits = []
    for activation in activations:
        config = dataclasses.replace(source.config, activation=activation)
        model = build_model(config)
        load_convs(model, source)
        for anchors in sizes:
            fitted = dataclasses.replace(config, anchor_sizes=anchors)
            ap = evaluate_keras(model, fitted, samples, InputSize.square(CHECK_SIZE))["all"]
            fits.append(Fit(activation, anchors, ap))
    return sorted(fits, key=lambda fit: -fit.ap)


def choose_fit(fits: Sequence[Fit], name: str, activation: str | None, anchor_sizes: Anchors | None) -> Fit:
    """The best fit that agrees with what the user said.

    Args:
        fits: best first.
        name: the file, for errors.
        activation, anchor_sizes: as the user said, None where the test is to decide.

    Raises:
        ImportWeightsError: another combination finds clearly more faces than the one stated, or the test cannot tell.
    """
    agreeing = [
        fit
        for fit in fits
        if activation in (None, fit.activation) and (anchor_sizes is None or anchor_sizes == fit.anchor_sizes)
    ]
    if not agreeing:
        raise ImportWeightsError(f"{name}: its graph has {fits[0].activation}, --activation is {activation}")
    best, tested = agreeing[0], "; ".join(map(str, fits))
    if fits[0].ap - best.ap >= CLEAR_MARGIN:
        raise ImportWeightsError(f"{name}: the settings given do not fit the weights ({tested})")
    unclear = best.ap < CLEAR_AP or any(best.ap - other.ap < CLEAR_MARGIN for other in agreeing[1:])
    if len(agreeing) > 1 and unclear:
        raise ImportWeightsError(
            f"{name}: cannot tell its activation and anchors, state them with --activation and --anchor_sizes of "
            f"rf_keras.import_weights ({tested})"
        )
    return best


def config_of_fit(config: ModelConfig, fit: Fit) -> ModelConfig:
    return dataclasses.replace(config, activation=fit.activation, anchor_sizes=fit.anchor_sizes)
