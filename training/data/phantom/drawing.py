"""Draws a phantom from its parameters: skeleton, soft tissue, film, and the truth that goes with them."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.phantom.attenuation import add_part, trabeculae
from training.data.phantom.canvas import Canvas, place
from training.data.phantom.film import expose, surround
from training.data.phantom.maturity import Sex
from training.data.phantom.parameters import PhantomParameters
from training.data.phantom.skeleton import Skeleton, build_skeleton
from training.data.phantom.tissue import soft_tissue

Image = NDArray[np.float32]

OVERSAMPLING: Final = 2
BONE_PER_MM: Final = 0.095
"""Attenuation of cortical bone at about 55 kV, per mm."""
TISSUE_PER_MM: Final = 0.020


@dataclass(frozen=True, slots=True)
class Phantom:
    """A drawn radiograph with its truth.

    `pixels` (H, W) float32 in [0, 1], 1 = dense; `mask` (H, W) bool, the outline of hand and forearm; `ossification`
    (H, W) uint8, 1 = articular region, 2 = ossified epiphyses and carpals; `spacing_mm` is the size of a pixel.
    """

    pixels: Image
    mask: NDArray[np.bool_]
    ossification: NDArray[np.uint8]
    age_months: float
    sex: Sex
    spacing_mm: float


def render(parameters: PhantomParameters, *, height_px: int) -> Phantom:
    """Draw the phantom of `parameters` on a canvas of `height_px` rows; the same call draws the same bytes."""
    skeleton = build_skeleton(parameters)
    canvas = place(parameters, skeleton, height_px=height_px * OVERSAMPLING)
    bone, ossified = _bones(parameters, skeleton, canvas)
    mask, tissue_mm = soft_tissue(parameters, skeleton, canvas)
    mask |= ossified
    attenuation = TISSUE_PER_MM * tissue_mm + BONE_PER_MM * parameters.bone * bone
    height, width = height_px, round(height_px / parameters.aspect)
    rng = np.random.default_rng((parameters.seed, 4))
    reduced = np.asarray(cv2.resize(attenuation, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    scene, field = surround(reduced, parameters, rng)
    px_per_mm = canvas.px_per_mm / OVERSAMPLING
    film = expose(scene, parameters, px_per_mm=px_per_mm, rng=rng) * field
    small_mask = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) >= 0.5
    labels = _labels(skeleton, canvas, ossified, (height, width)) * small_mask
    return Phantom(
        pixels=np.clip(film, 0, 1),
        mask=small_mask,
        ossification=labels.astype(np.uint8),
        age_months=parameters.age_months,
        sex=parameters.sex,
        spacing_mm=1 / px_per_mm,
    )


def _bones(p: PhantomParameters, skeleton: Skeleton, canvas: Canvas) -> tuple[Image, NDArray[np.bool_]]:
    """Attenuation of all bones in mm of cortical bone, and where epiphyses and carpals are."""
    rng = np.random.default_rng((p.seed, 3))
    texture = trabeculae(rng)
    bone = np.zeros((canvas.height_px, canvas.width_px), np.float32)
    ossified = np.zeros(bone.shape, bool)
    for part in skeleton.parts:
        inside = add_part(bone, part, canvas, texture, rng)
        if part.ossification:
            ossified |= inside
    return bone, ossified


def _labels(
    skeleton: Skeleton, canvas: Canvas, ossified: NDArray[np.bool_], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    labels = np.zeros(ossified.shape, np.uint8)
    for x, y, radius in skeleton.joints:
        centre = canvas.to_pixels(np.array([[x, y]]))[0]
        cv2.circle(labels, (round(centre[0]), round(centre[1])), round(radius * canvas.px_per_mm), 1, -1)
    labels[ossified] = 2
    return np.asarray(cv2.resize(labels, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST), np.uint8)
