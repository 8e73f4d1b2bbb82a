"""Compares what goes into a model and comes out of it with its contract; shapes are checked after the batch."""

from collections.abc import Iterable, Sequence
from typing import Final

from services.core.domain.contracts import ModelContract, TensorSpec
from services.core.domain.ports import Tensors
from services.core.errors import ModelContractError

BATCH_AXES: Final = 1


def fits(spec: TensorSpec, shape: Sequence[int | str | None]) -> bool:
    """Whether a shape (batch, ...) is one of `spec`; sizes that are no numbers are left open by a model."""
    dims = shape[BATCH_AXES:]
    return len(dims) == len(spec.dims) and all(
        wanted == -1 or not isinstance(found, int) or found == wanted
        for wanted, found in zip(spec.dims, dims, strict=True)
    )


def check_names(contract: ModelContract, kind: str, specs: Sequence[TensorSpec], found: Iterable[str]) -> None:
    """Compare the names of inputs or outputs. Raises ModelContractError."""
    names, wanted = sorted(found), sorted(spec.name for spec in specs)
    if names != wanted:
        raise ModelContractError(f"{contract.name} has {kind}s {names}, not {wanted}")


def check_inputs(contract: ModelContract, inputs: Tensors) -> None:
    """Compare a batch with the contract. Raises ModelContractError: what is sent to a model is made by us."""
    for spec in contract.inputs:
        shape = inputs[spec.name].shape if spec.name in inputs else None
        if shape is None or shape[BATCH_AXES:] != spec.dims or not 0 < shape[0] <= contract.max_batch:
            raise ModelContractError(
                f"{contract.name}: input {spec.name} has shape {shape}, not (1 to "
                f"{contract.max_batch}, {', '.join(map(str, spec.dims))})"
            )


def check_outputs(contract: ModelContract, outputs: Tensors, *, batch: int) -> None:
    """Compare the answer to a batch with the contract. Raises ModelContractError."""
    check_names(contract, "output", contract.outputs, outputs)
    for spec in contract.outputs:
        shape = outputs[spec.name].shape
        if shape[:BATCH_AXES] != (batch,) or not fits(spec, shape):
            dims = ", ".join(map(str, (batch, *spec.dims)))
            raise ModelContractError(f"{contract.name}: output {spec.name} has shape {shape}, not ({dims})")
