"""A small run of paced transfer learning for the tests, by several processes; each leaves what it came to.

python -m torch.distributed.run --standalone --nproc-per-node=2 staged.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch

from training.jobs.lessons import Teacher
from training.models.regressor import TransferNetwork
from training.publish.reader import Member
from training.transfer.devices import Device, choose_device
from training.transfer.images import Examples
from training.transfer.learner import Fitting, Lessons, StagedLearner
from training.transfer.stages import Stage
from training.transfer.target import AgeTarget

SIDE = 64
BACKBONE = "mobilenetv3_small_050"


def examples(count: int, *, seed: int) -> Examples:
    """Images whose brightness tells their age, in half of them, of both sexes."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(12, 216, count).astype(np.float32)
    told = np.where(rng.random(count) < 0.5, ages, rng.uniform(12, 216, count))
    images = np.clip(told[:, None, None] + rng.normal(0, 30, (count, SIDE, SIDE)), 1, 255).astype(np.uint8)
    return Examples.of(images, ages, rng.integers(0, 2, count))


def taught(folder: Path, device: Device) -> Lessons:
    """What `teacher.pt` in `folder` says of the training images, by one process or by several."""
    teacher = Teacher([Member(BACKBONE, [folder / "teacher.pt"])], share=0.1)
    return teacher.lessons(examples(64, seed=1), AgeTarget(), device, folder / f"taught-by-{device.world}")


def main(folder: Path) -> None:
    """Learn to the end, taught by `teacher.pt`.

    `RANK.pt` holds the weights of each process, how long each stage was and what it read, and what the teacher said.
    """
    torch.set_num_threads(1)
    device = choose_device(precision="fp32", kind="cpu")
    torch.manual_seed(0)
    paced = [(("exit",), 320), (("exit", "middle"), 320)]
    lessons = taught(folder, device)
    learner = StagedLearner(
        TransferNetwork(BACKBONE, 3),
        train=examples(64, seed=1),
        validation=examples(16, seed=2),
        target=AgeTarget(),
        stages=[Stage(flows, images=images, learning_rate=0.01, patience=3) for flows, images in paced],
        fitting=Fitting(batch_size=8, validate_every=8, seed=3),
        device=device,
        lessons=lessons,
    )
    reports = []
    while not learner.finished:
        reports.append(learner.step(len(reports) + 1))
    said = torch.from_numpy(lessons.outputs)
    found = {"network": learner.network.state_dict(), "reports": reports, "said": said}
    torch.save(found, folder / f"{device.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
