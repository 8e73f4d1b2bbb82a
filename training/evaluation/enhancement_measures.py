"""What a study of enhancement measures of one radiograph, each apart from all others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.polarity import positive
from services.core.domain.preprocess import crop_square, hand_image, resize
from services.core.errors import InvalidRadiographError
from training.data.masks import read_label_map
from training.data.radiographs import Radiograph
from training.data.rows import Column
from training.enhancement.degrade import KINDS, degrade, draw_degradation, draw_kind
from training.enhancement.hands import frame_masks
from training.enhancement.methods import BATCH, Methods
from training.enhancement.planted import DIAMETERS_PX, responses
from training.evaluation.restoration import contrast_to_noise, psnr, ssim, unsteadiness
from training.models.ensemble import Reader
from training.models.segmenter import FCDenseNet
from training.transfer.target import AgeTarget

AS_IT_IS: Final = 0
LEAST_PX: Final = 30
ARTICULAR: Final = 1
BONE: Final = 2
CHANGES: Final = ("planted", "erased")

Image = NDArray[np.float32]
Values = dict[str, NDArray[Any]]


def degraded(hand: Image, place: int, *, variants: int, seed: int) -> Image:
    """A hand (S, S) in `variants` degradations as they are drawn for training, and in each of `KINDS` alone.

    The draws are those of the hand's `place` among others.
    """
    drawn = [draw_degradation(np.random.default_rng((seed + number, place))) for number in range(1, variants + 1)]
    drawn += [draw_kind(kind, np.random.default_rng((seed, place, number))) for number, kind in enumerate(KINDS, 1)]
    return np.stack([degrade(hand, one) for one in drawn])


@dataclass(frozen=True, slots=True)
class HandMeasures:
    """Restoration of a degraded hand by M methods, and the reader's error on what they make of it.

    Columns are of C images: the hand as it is, its variants, and each kind of degradation alone.
    """

    methods: Methods
    reader: Reader
    variants: int
    seed: int

    @property
    def columns(self) -> dict[str, Column]:
        """By name: PSNR in dB, SSIM and absolute error in months of every image (M, C), and unsteadiness (M,)."""
        methods = len(self.methods.names)
        of_images: Column = ((methods, 1 + self.variants + len(KINDS)), "float64")
        return {"psnr_db": of_images, "ssim": of_images, "error_months": of_images,
                "unsteadiness": ((methods,), "float64")}  # fmt: skip

    def of(self, hand: Image, place: int, *, age_months: float, sex: int) -> Values:
        """Of one hand (S, S) in [0, 1]; `sex` is a column of `SEX_ORDER`. Raises InvalidRadiographError."""
        if not hand.any():
            raise InvalidRadiographError("there is no hand in it")
        made = self.methods(np.stack([hand, *degraded(hand, place, variants=self.variants, seed=self.seed)]))
        return {
            "psnr_db": np.array([[psnr(image, hand) for image in images] for images in made.values()]),
            "ssim": np.array([[ssim(image, hand) for image in images] for images in made.values()]),
            "error_months": np.array([np.abs(self._months(images, sex) - age_months) for images in made.values()]),
            "unsteadiness": np.array([unsteadiness(images[1 : 1 + self.variants]) for images in made.values()]),
        }

    def _months(self, images: Image, sex: int) -> NDArray[np.float32]:
        outputs = []
        for start in range(0, len(images), BATCH):
            x = torch.from_numpy(images[start : start + BATCH])[:, None]
            with torch.inference_mode():
                outputs.append(((self.reader(x)[0] + self.reader(x.flip(3))[0]) / 2).numpy())
        return AgeTarget().months(np.concatenate(outputs), np.full(len(images), sex))


@dataclass(frozen=True, slots=True)
class RegionMeasures:
    """Contrast of bone after each of M methods, and what the gate sees of planted and erased bones.

    `maps` are files by id: 1 articular region, 2 ossified epiphyses and carpals.
    """

    methods: Methods
    segmenter: FCDenseNet
    maps: Mapping[str, Path]
    seed: int

    @property
    def columns(self) -> dict[str, Column]:
        """Contrast-to-noise (M,), the gate's value for a change of contrast, and for CHANGES by diameter, nan: none."""
        changed: Column = ((len(DIAMETERS_PX),), "float64")
        return {"contrast_to_noise": ((len(self.methods.names),), "float64"), "allowed": ((), "float64"),
                **dict.fromkeys(CHANGES, changed)}  # fmt: skip

    def of(self, radiograph: Radiograph, place: int) -> Values:
        """Of one. Raises InvalidRadiographError and BadConfigurationError where it or its map will not do."""
        hand, bone, tissue = self._regions(radiograph)
        contrasts = [contrast_to_noise(made[0], bone, tissue) for made in self.methods(hand[None]).values()]
        allowed, found = responses(hand, bone, np.random.default_rng((self.seed, place)))
        changed = {kind: np.array([found.get((kind, px), np.nan) for px in DIAMETERS_PX]) for kind in CHANGES}
        return {"contrast_to_noise": np.array(contrasts), "allowed": np.array(allowed), **changed}

    def _regions(self, radiograph: Radiograph) -> tuple[Image, NDArray[np.bool_], NDArray[np.bool_]]:
        """Hand (S, S) with its ossified bone, and the tissue around that in the articular regions."""
        frame = radiograph.frame()
        ((_, mask),) = frame_masks(self.segmenter, [frame])
        hand, square = hand_image(positive(frame, mask), mask)
        labels = read_label_map(self.maps[radiograph.id])
        height, width = frame.shape
        regions = [resize((labels == v).astype(np.float32), height=height, width=width) for v in (ARTICULAR, BONE)]
        articular, bone = (crop_square(region, square, size_px=hand.shape[0]) >= 0.5 for region in regions)
        bone, tissue = bone & (hand > 0), articular & ~bone & (hand > 0)
        if (least := min(int(bone.sum()), int(tissue.sum()))) < LEAST_PX:
            raise InvalidRadiographError(f"{least} px of bone or of tissue around it are fewer than {LEAST_PX}")
        return hand, bone, tissue
