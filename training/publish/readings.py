"""What a release's reader says of the radiographs that measure it, kept row by row: a killed job goes on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.core.domain.upright import TYPICALITY
from training.data.rows import Column, Rows
from training.evaluation.measure import OnnxModel
from training.publish.material import BATCH, Material
from training.run.advance import Advance


def readings(
    reader: OnnxModel, material: Material, folder: Path, *, said_by: str, advance: Advance
) -> dict[str, NDArray[np.float32]]:
    """The contract's first output and the scores of typicality of all hands of `material`, each (N, n), by name.

    Kept in `folder`; what was not `said_by` this reader and code there, or of other hands, is made anew. Raises
    StoreUnwritableError where there is no room.
    """
    names = reader.contract.outputs[0].name, TYPICALITY
    everything = np.arange(len(material.rows))
    example = reader(next(material.hands(everything[:1])))
    columns: dict[str, Column] = {name: (example[name].shape[1:], "float32") for name in names}
    rows = Rows.make(folder, material.ids, columns, made_by=f"{said_by} {material.digest()}", anew=True)
    for start in range(0, len(everything), BATCH):
        chosen = everything[start : start + BATCH]
        if rows.done[chosen].all():
            advance.kept(len(chosen))
            continue
        outputs = reader(next(material.hands(chosen)))
        rows.write(chosen, **{name: outputs[name] for name in names})
        advance(len(chosen), doing="reading")
    return {name: np.array(rows.columns[name]) for name in names}
