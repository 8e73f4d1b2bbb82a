"""Trains the members of a round, and keeps their weights."""

from pathlib import Path
from typing import Final

import torch
from torch import nn

from training.active_learning.learner import Outlines, SegmenterLearner
from training.active_learning.plan import Plan
from training.run.checkpoint import Checkpoint, save_whole
from training.run.claim import claimed
from training.run.journal import Journal
from training.run.steps import run_steps

WEIGHTS: Final = "weights.pt"


def beginning(folder: Path, plan: Plan, member: int) -> Path:
    """Where runs that begin alike share a member of their first round."""
    return folder / f"member-{plan.member_seed(member)}-dropout-{plan.dropout:g}"


def learn(
    network: nn.Module, outlines: Outlines, selection: Outlines, plan: Plan, place: Path, *, number: int, member: int
) -> None:
    """Train a network for one round of a plan; its best weights are kept in `place`, unless they are there already.

    Nobody else is at work there meanwhile: whoever comes later waits.
    """
    with claimed(place, wait=True):
        if (place / WEIGHTS).exists():
            return
        learner = SegmenterLearner(
            network, sources=[outlines], selection=selection, phases=plan.phases_of(number),
            validate_every=plan.validate_every, seed=plan.member_seed(member) * 100 + number, scenes=plan.scenes,
        )  # fmt: skip
        with Journal(place, title=f"round {number}, member {member}", total=learner.steps) as journal:
            run_steps(learner, steps=learner.steps, checkpoint=Checkpoint(place / "last.pt"), journal=journal)
        save_whole({"model": learner.best, "selection_dice": learner.score}, place / WEIGHTS)
        (place / "last.pt").unlink()


def load(network: nn.Module, place: Path) -> None:
    """Give a network the weights that are kept in `place`."""
    network.load_state_dict(torch.load(place / WEIGHTS, map_location="cpu", weights_only=True)["model"])
