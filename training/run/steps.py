"""The loop that every network is trained by: steps, checkpoints, and an orderly end when it is asked to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from training.run.checkpoint import Checkpoint
from training.run.exits import Interrupted
from training.run.journal import Journal


class Learner(Protocol):
    """What is trained.

    All randomness of a step must be drawn from its number and a seed, never from what went before: a run that was
    killed and goes on from its last checkpoint then ends with the same weights as one that was not.
    """

    def step(self, step: int) -> dict[str, float]:
        """One change of the weights; returns the figures to log."""

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Tells, inside the block, whether SIGTERM or SIGINT has come; the handlers before it come back afterwards."""
    asked = False

    def remember(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_steps(
    learner: Learner,
    *,
    steps: int,
    checkpoint: Checkpoint,
    journal: Journal,
    log_every: int = 25,
    after: Callable[[int], bool] | None = None,
) -> int:
    """Do the steps 1 to `steps`, from the checkpoint on where there is one; return the number of the last one done.

    Every `log_every`-th step is logged, and every one with a figure whose name starts with `validation`. `after` is
    called after each step and ends the run by returning True. Its own state belongs into the learner's.
    Raises Interrupted, with the state saved, when the process is asked to stop, or StoreUnwritableError where it cannot
    be saved.
    """
    done = 0
    if (state := checkpoint.load()) is not None:
        learner.restore(state["learner"])
        done = int(state["step"])
        if state["finished"]:
            return done
    journal.rewind(done)

    def save(*, finished: bool = False, last: bool = False) -> None:
        checkpoint.save({"step": done, "finished": finished, "learner": learner.state()}, last=finished or last)

    with stop_requests() as stopping:
        while done < steps:
            figures = learner.step(done + 1)
            done += 1
            if done % log_every == 0 or done == steps or any(name.startswith("validation") for name in figures):
                journal.record(done, **figures)
            if after is not None and after(done):
                break
            if stopping():
                save(last=True)
                raise Interrupted(f"stopped after step {done} of {steps}; start it again to go on")
            if checkpoint.due():
                save()
    save(finished=True)
    return done
