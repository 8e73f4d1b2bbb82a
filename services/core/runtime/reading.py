"""How a hand is read, whichever way it lies."""

from services.core.domain.gates import GateThresholds
from services.core.domain.ports import Inference, Tensors
from services.core.domain.preprocess import Image
from services.core.domain.reading import ModelVersion
from services.core.domain.upright import TYPICALITY, in_quarters, lies, upright_again
from services.core.runtime.deadlines import Deadline


async def read_upright(
    inference: Inference, model: ModelVersion, hand: Image, gates: GateThresholds, deadline: Deadline
) -> tuple[Tensors, int]:
    """A reader's outputs (1, ...) for a hand (1, 1, S, S), and by how many quarter turns it was turned to be read.

    Only a hand that does not lie upright is read again, in all turns; one that is upright in none stays as it came.
    """
    outputs = await inference.infer(model.name, model.version, {"hand": hand}, timeout_s=deadline.left_s())
    if not lies(outputs[TYPICALITY][0], gates):
        return outputs, 0
    batch = {"hand": in_quarters(hand)}
    turned = await inference.infer(model.name, model.version, batch, timeout_s=deadline.left_s())
    return upright_again(turned, gates) or (outputs, 0)
