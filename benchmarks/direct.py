"""The chain as plain calls in one process: what the services compute, without any service."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.assessment import pipeline as assessment
from services.core.adapters.imaging import Decoded
from services.core.adapters.inference_onnxruntime import load_session, run
from services.core.adapters.model_repository import ModelRepository
from services.core.domain.contracts import ENHANCER, REGRESSOR, SEGMENTER
from services.core.domain.gates import Abstention
from services.core.domain.preprocess import Image
from services.core.domain.reading import Age, ModelVersion
from services.enhancement import pipeline as enhancement
from services.regression import pipeline as regression
from services.segmentation import pipeline as segmentation

STAGE_OF = {SEGMENTER: "segmentation", ENHANCER: "enhancement", REGRESSOR: "regression"}


class DirectChain:
    """Reads radiographs with the current release of `root`; `threads` of each model's session by its stage's name."""

    def __init__(self, root: Path, threads: Mapping[str, int]) -> None:
        self.release = ModelRepository(root).get()
        self._models = {name: ModelVersion(name, version) for name, version in self.release.models.items()}
        self._sessions = {
            name: load_session(root, name, version, threads=threads[STAGE_OF[name]])
            for name, version in self.release.models.items()
        }

    def read(self, decode: Callable[[], Decoded]) -> float | Abstention:
        """The age in months of what `decode` gives, sex unknown, or the abstention of the first gate that refuses."""
        hand = self.hand(decode().pixels, None)
        if isinstance(hand, Abstention):
            return hand
        outputs = self.regress(regression.prepare(hand.image))
        reading = regression.conclude(outputs, "unknown", self.release, self._models[REGRESSOR])
        assert isinstance(reading.value, Age)  # the speed of releases that read ages is what is measured
        return reading.abstention or reading.value.months

    def hand(self, pixels: Image, true_shape: tuple[int, int] | None) -> enhancement.Hand | Abstention:
        """The hand prepared for the regressor from pixels (H, W) in [0, 1], or why there is none."""
        gates = self.release.gates
        radiograph = assessment.prepare(pixels, true_shape, keep_picture=False)
        frame, batch = segmentation.prepare(radiograph.frame, None)
        probability = self._run(SEGMENTER, "radiograph", batch)["hand_probability"][0, 0]
        shape = radiograph.frame.shape
        found = segmentation.conclude(
            frame, segmentation.find(frame, probability), shape, gates, self._models[SEGMENTER]
        )
        if found.abstention is not None:
            return found.abstention
        hand = enhancement.prepare(radiograph.frame, found.mask, None)
        generated = self._run(ENHANCER, "hand", hand.image[None, None])["enhanced"][0, 0]
        return enhancement.conclude(hand, generated, gates, self._models[ENHANCER]).hand

    def regress(self, hands: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The regressor's outputs for prepared hands (N, 1, S, S)."""
        return self._run(REGRESSOR, "hand", hands)

    def _run(self, model: str, name: str, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return run(self._sessions[model], {name: batch})
