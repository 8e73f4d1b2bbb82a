"""Trains the enhancer against its discriminator, step by step, for `training.run.steps`."""

import copy
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.data.augment import apply_geometry, draw_change
from training.enhancement.adversary import adversarial_loss, discriminator_loss, reconstruction_loss
from training.enhancement.degrade import NEITHER, Shares, degrade, draw_degradation
from training.models.discriminator import Discriminator
from training.models.enhancer import UNetGenerator
from training.run.precision import cpu_autocast
from training.run.schedule import cosine_rate

GRADIENT_NORM: Final = 5.0
DISCRIMINATOR_RATE: Final = 0.25  # of the generator's: a discriminator that wins at once teaches nothing
ADAM_BETAS: Final = (0.5, 0.999)  # of the discriminator; Radford A et al., ICLR 2016


def training_pairs(
    hands: NDArray[np.uint8], rng: np.random.Generator, shares: Shares = NEITHER
) -> tuple[torch.Tensor, torch.Tensor]:
    """Degraded and original forms of hands (B, S, S), both (B, 1, S, S)."""
    inputs, targets = [], []
    for stored in hands:
        hand = apply_geometry(stored.astype(np.float32) / 255, draw_change(rng))
        inputs.append(degrade(hand, draw_degradation(rng, shares)))
        targets.append(hand)
    return torch.from_numpy(np.stack(inputs)[:, None]), torch.from_numpy(np.stack(targets)[:, None])


class EnhancerLearner:
    """The learner of `training.run.steps`; the best weights on `selection` are in `best`.

    `gold` and `selection` are rows of `hands` (N, S, S), which may be mapped from a file: a batch is read at a time.
    With `adversarial_weight` 0 there is no discriminator, and the generator alone is trained.
    """

    def __init__(
        self,
        *,
        hands: NDArray[np.uint8],
        gold: NDArray[np.intp],
        selection: NDArray[np.intp],
        steps: int,
        batch_size: int,
        learning_rate: float,
        adversarial_weight: float,
        validate_every: int,
        seed: int,
        shares: Shares = NEITHER,
    ) -> None:
        torch.manual_seed(seed)
        self.generator = UNetGenerator().to(memory_format=torch.channels_last)
        self.discriminator = Discriminator().to(memory_format=torch.channels_last)
        self.hands, self.gold, self.seed, self.steps = hands, gold, seed, steps
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.adversarial_weight, self.validate_every = adversarial_weight, validate_every
        self.shares = shares
        self.fixed = training_pairs(hands[selection], np.random.default_rng(0), shares)
        self.optimisers = (
            torch.optim.AdamW(self.generator.parameters(), lr=0.0, weight_decay=1e-4),
            torch.optim.AdamW(self.discriminator.parameters(), lr=0.0, betas=ADAM_BETAS, weight_decay=1e-4),
        )
        self.error, self.best = float("inf"), copy.deepcopy(self.generator.state_dict())

    def step(self, step: int) -> dict[str, float]:
        """One batch for both; validates every `validate_every` steps and at the end."""
        rate = cosine_rate(step / self.steps, top=self.learning_rate, warm_up=0.3)
        for optimiser, share in zip(self.optimisers, (1.0, DISCRIMINATOR_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
        rng = np.random.default_rng((self.seed, step))
        drawn = self.gold[rng.integers(len(self.gold), size=self.batch_size)]
        x, y = training_pairs(self.hands[drawn], rng, self.shares)
        x = x.contiguous(memory_format=torch.channels_last)
        with cpu_autocast():
            generated = self.generator(x)
        generated = generated.float()
        reconstruction = reconstruction_loss(generated, y)
        figures = {"reconstruction": float(reconstruction.detach()), "learning_rate": rate}
        loss = reconstruction
        if self.adversarial_weight:
            # The generator's gradient passes through D as it is; D itself learns afterwards, from the same hands.
            against = adversarial_loss(self.discriminator(x, generated))
            loss = loss + self.adversarial_weight * against
            figures["adversarial"] = float(against.detach())
        self._update(0, self.generator, loss)
        if self.adversarial_weight:
            hands = generated.detach()
            against = discriminator_loss(self.discriminator(x, y), self.discriminator(x, hands))
            self._update(1, self.discriminator, against)
            figures["discriminator"] = float(against.detach())
        if step % self.validate_every and step != self.steps:
            return figures
        error, without = self._validate()
        if error < self.error:
            self.error, self.best = error, copy.deepcopy(self.generator.state_dict())
        return figures | {"validation_l1": error, "validation_l1_without": without}

    def _update(self, place: int, network: nn.Module, loss: Tensor) -> None:
        optimiser = self.optimisers[place]
        network.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimiser.step()

    def _validate(self) -> tuple[float, float]:
        """L1 of the degraded selection hands from the originals, enhanced and as they are."""
        self.generator.eval()
        with torch.inference_mode():
            error = float(functional.l1_loss(self.generator(self.fixed[0]), self.fixed[1]))
        self.generator.train()
        return error, float(functional.l1_loss(*self.fixed))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "generator": self.generator.state_dict(), "discriminator": self.discriminator.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "error": self.error, "best": self.best,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.error, self.best = state["error"], state["best"]
