"""How fast a network learns in the course of a run."""

import math


def cosine_rate(progress: float, *, top: float, warm_up: float = 0.1, final_fraction: float = 0.0) -> float:
    """Learning rate after a share `progress` of a run: it rises over `warm_up` to `top` and falls on a cosine.

    It ends at `final_fraction` of `top`; Loshchilov I, Hutter F, "SGDR", ICLR 2017, without restarts.
    """
    done = min(1.0, max(0.0, progress))
    if done < warm_up:
        return top * max(done / warm_up, 0.01)
    down = (done - warm_up) / max(1 - warm_up, 1e-9)
    return top * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * down)) / 2)
