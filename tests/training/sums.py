"""A small run for the tests: a network learns sums, one step at a time, until it is killed or done.

python sums.py FOLDER STEPS SECONDS_BETWEEN_CHECKPOINTS
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.run.checkpoint import Checkpoint
from training.run.exits import JobError
from training.run.journal import Journal
from training.run.steps import run_steps


class Sums:
    """A learner of which every draw depends on the step's number alone."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1))
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-3)

    def step(self, step: int) -> dict[str, float]:
        """One batch."""
        torch.manual_seed(step)
        x = torch.randn(32, 4)
        loss = (self.network(x)[:, 0] - x.sum(1)).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": float(loss)}

    def state(self) -> dict[str, Any]:
        """Weights and moments."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


def main(folder: Path, steps: int, every_s: float) -> int:
    """Run; the exit code is that of a job."""
    torch.set_num_threads(1)
    checkpoint = Checkpoint(folder / "last.pt", every_s=every_s)
    try:
        with Journal(folder, title="sums", total=steps) as journal:
            run_steps(Sums(), steps=steps, checkpoint=checkpoint, journal=journal, log_every=5)
    except JobError as error:
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
