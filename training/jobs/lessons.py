"""Distillation: what better networks read, which a network learns from beside the labels (Hinton et al. 2015)."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
from pydantic import Field

from training.data.rows import Column, Rows
from training.publish.reader import Member, read_reader
from training.run.advance import advancing
from training.transfer.devices import Device
from training.transfer.images import Examples
from training.transfer.learner import Lessons
from training.transfer.target import AgeTarget, CategoryTarget

BATCH: Final = 32
FOLDER: Final = "lessons"
OUTPUTS: Final = "outputs"


@dataclass(frozen=True, slots=True)
class Teacher:
    """Networks whose mean is imitated, and the share of the loss that imitation has; the labels have the rest.

    They read each image as it is stored and mirrored, once, so that a label that is wrong does not stand alone.
    """

    members: Annotated[list[Member], Field(min_length=1)]
    share: Annotated[float, Field(gt=0, le=1)] = 0.5

    def lessons(self, examples: Examples, target: AgeTarget | CategoryTarget, device: Device, out: Path) -> Lessons:
        """What they read, each of several processes its share; a killed run goes on with what is not in `out` yet.

        Made anew only for other images or other networks. Raises StoreUnwritableError where there is no room.
        """
        mine = np.array_split(np.arange(len(examples)), device.world)[device.rank]
        folder = out / FOLDER / f"rank-{device.rank}" if device.world > 1 else out / FOLDER
        columns: dict[str, Column] = {OUTPUTS: ((target.outputs,), "float32")}
        names = [str(row) for row in examples.rows[mine]]
        rows = Rows.make(folder, names, columns, made_by=self._made_with(examples, device), anew=True)
        if len(rows.missing):
            self._read(rows, examples.take(mine), target, device)
        return Lessons(np.concatenate(device.gathered(np.array(rows.columns[OUTPUTS]))), self.share)

    def _read(self, rows: Rows, examples: Examples, target: AgeTarget | CategoryTarget, device: Device) -> None:
        """Raw outputs (N, n) of the rows that are missing."""
        reader = read_reader(self.members, target, examples.sexes).to(device.handle, memory_format=torch.channels_last)
        with advancing(rows.folder, title="teacher", total=len(examples)) as advance:
            for start in range(0, len(examples), BATCH):
                places = np.arange(start, min(start + BATCH, len(examples)))
                if rows.done[places].all():
                    advance.kept(len(places))
                    continue
                images = torch.from_numpy(examples.floats(places)).to(device.handle)
                with torch.inference_mode(), device.autocast():
                    both = [
                        reader(x.contiguous(memory_format=torch.channels_last))[0] for x in (images, images.flip(-1))
                    ]
                rows.write(places, **{OUTPUTS: torch.stack(both).float().mean(dim=0).cpu().numpy()})
                advance(len(places), doing="reading")

    def _made_with(self, examples: Examples, device: Device) -> str:
        members = [asdict(member) | member.card() for member in self.members]
        text = json.dumps([members, examples.digest(), device.precision], default=str, sort_keys=True)
        return sha256(text.encode()).hexdigest()
