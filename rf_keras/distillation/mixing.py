"""Images mixed with one another: only a teacher, who is asked about the mixed image, gives it true targets."""

from __future__ import annotations

import tensorflow as tf

MIX_DRAWS = 6  # random numbers per image that `mix_images` takes
LARGEST_OPACITY = 0.5  # of the other image of a blend
MIX_SIDES = (0.2, 0.7)  # of the rectangle taken from another image, as shares of the image's


@tf.autograph.experimental.do_not_convert
def mix_batch(batch: dict[str, tf.Tensor], share: float) -> dict[str, tf.Tensor]:
    """A batch of `pipeline.make_batches` with `share` of its images mixed as its draws `mix` say.

    Labels of mixed images correct nobody.
    """
    rest = {key: value for key, value in batch.items() if key != "mix"}
    if "corrected" in rest:
        rest["corrected"] &= batch["mix"][:, 0] >= share
    return {**rest, "image": mix_images(batch["image"], batch["mix"], share)}


def mix_images(images: tf.Tensor, draws: tf.Tensor, share: float) -> tf.Tensor:
    """Some images of a batch with a part of the image before them: blended over all of it, or a rectangle pasted.

    Args:
        images: uint8 [B, S, S, 3]. The one before the first is the last; a batch of one stays as it is.
        draws: float32 [B, MIX_DRAWS] in [0, 1): what happens, opacity, width, height, x, y.
        share: of the images that are mixed, half of them in each way.

    Returns:
        the same shape and type; rounded to the nearest value.

    Source: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019); as inputs of a teacher, Beyer et al. 2022.
    """
    kind, opacity, width, height, x, y = tf.unstack(draws, axis=1)  # [B] each
    along = (tf.cast(tf.range(tf.shape(images)[1]), tf.float32) + 0.5) / tf.cast(tf.shape(images)[1], tf.float32)

    def inside(side: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        side = MIX_SIDES[0] + side * (MIX_SIDES[1] - MIX_SIDES[0])
        start = place * (1 - side)
        return (along >= start[:, None]) & (along < (start + side)[:, None])  # [B, S]

    pasted = inside(height, y)[:, :, None] & inside(width, x)[:, None, :] & (kind < share / 2)[:, None, None]
    blended = (kind >= share / 2) & (kind < share)
    weight = tf.where(blended, LARGEST_OPACITY * opacity, 0.0)[:, None, None]
    weight = tf.where(pasted, 1.0, weight)[..., None]  # [B, S, S, 1]
    image = tf.cast(images, tf.float32)
    return tf.cast(image + weight * (tf.roll(image, 1, axis=0) - image) + 0.5, tf.uint8)
