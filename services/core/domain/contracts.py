"""What models and services agree on: tensor names, shapes and types of each model, and the order of the sexes."""

from dataclasses import dataclass
from typing import Final, Literal

from services.core.domain.preprocess import HAND_PX, SEGMENT_PX

Sex = Literal["male", "female", "unknown"]
SEX_ORDER: Final[tuple[Sex, ...]] = ("male", "female", "unknown")

SEGMENTER: Final = "hand_segmenter"
ENHANCER: Final = "radiograph_enhancer"
REGRESSOR: Final = "boneage_regressor"
CLASSIFIER: Final = "hand_classifier"
READERS: Final = (REGRESSOR, CLASSIFIER)
"""A release has one of them: it reads ages, or tells classes apart."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named tensor; `dims` leaves out the batch, -1 stands for a size that the model's version decides."""

    name: str
    dims: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class ModelContract:
    """The tensors that every version of a model has; another contract is another model name."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int


CONTRACTS: Final[dict[str, ModelContract]] = {
    contract.name: contract
    for contract in (
        ModelContract(
            SEGMENTER,
            inputs=(TensorSpec("radiograph", (1, SEGMENT_PX, SEGMENT_PX)),),
            outputs=(TensorSpec("hand_probability", (1, SEGMENT_PX, SEGMENT_PX)),),
            max_batch=2,
        ),
        ModelContract(
            ENHANCER,
            inputs=(TensorSpec("hand", (1, HAND_PX, HAND_PX)),),
            outputs=(TensorSpec("enhanced", (1, HAND_PX, HAND_PX)),),
            max_batch=8,
        ),
        ModelContract(
            REGRESSOR,
            inputs=(TensorSpec("hand", (1, HAND_PX, HAND_PX)),),
            outputs=(
                TensorSpec("age_months", (len(SEX_ORDER),)),
                TensorSpec("activation", (len(SEX_ORDER), -1, -1)),
                TensorSpec("bias_months", (len(SEX_ORDER),)),
                TensorSpec("typicality", (-1,)),
            ),
            max_batch=8,
        ),
        ModelContract(
            CLASSIFIER,
            inputs=(TensorSpec("hand", (1, HAND_PX, HAND_PX)),),
            outputs=(
                TensorSpec("logits", (-1,)),
                TensorSpec("activation", (-1, -1, -1)),
                TensorSpec("bias", (-1,)),
                TensorSpec("typicality", (-1,)),
            ),
            max_batch=8,
        ),
    )
}
