"""Exports a network to ONNX and proves that ONNX Runtime computes what torch does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from services.core.domain.contracts import ModelContract
from training.run.room import whole

OPSET: Final = 18
RELATIVE_TOLERANCE: Final = 1e-4
AGE_TOLERANCE_MONTHS: Final = 0.05
BATCHES: Final = (1, 2, 3, 8)
AGE: Final = "age_months"
AGE_ABSOLUTE: Final = "age_months_absolute"


def export(network: nn.Module, contract: ModelContract, path: Path) -> None:
    """Write `network` (in evaluation mode) as one ONNX file with the contract's names and a free batch size.

    The file is whole or not there. Raises StoreUnwritableError.
    """
    network.eval()
    (source,) = contract.inputs
    example = torch.rand(2, *source.dims)
    program = torch.onnx.export(
        network,
        (example,),
        input_names=[source.name],
        output_names=[spec.name for spec in contract.outputs],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    with whole(path) as file:
        file.write(program.model_proto.SerializeToString())


def parity(
    network: nn.Module,
    contract: ModelContract,
    path: Path,
    images: NDArray[np.float32],
    batches: Sequence[int] = BATCHES,
) -> dict[str, float]:
    """Worst difference of each output between torch and ONNX Runtime over `images` (N, 1, S, S), at several batches.

    Relative differences are to the largest absolute value of the output. Raises ValueError above the tolerances.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (source,) = contract.inputs
    worst = {f"{spec.name}_relative": 0.0 for spec in contract.outputs}
    for size in batches:
        batch = images[:size]
        with torch.inference_mode():
            result = network(torch.from_numpy(batch))
        expected = result if isinstance(result, tuple) else (result,)
        found = session.run([spec.name for spec in contract.outputs], {source.name: batch})
        for spec, a, b in zip(contract.outputs, expected, found, strict=True):
            difference = float(np.abs(a.numpy() - b).max())
            key = f"{spec.name}_relative"
            worst[key] = max(worst[key], difference / max(float(np.abs(a.numpy()).max()), 1e-12))
            if spec.name == AGE:
                worst[AGE_ABSOLUTE] = max(worst.get(AGE_ABSOLUTE, 0.0), difference)
    if max(v for k, v in worst.items() if k.endswith("relative")) > RELATIVE_TOLERANCE:
        raise ValueError(f"ONNX differs from torch by more than {RELATIVE_TOLERANCE}: {worst}")
    if worst.get(AGE_ABSOLUTE, 0.0) > AGE_TOLERANCE_MONTHS:
        raise ValueError(f"ONNX differs from torch by more than {AGE_TOLERANCE_MONTHS} months: {worst}")
    return worst
