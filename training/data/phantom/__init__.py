"""The hand phantom: a drawn radiograph of a child's hand with exact ground truth.

It reads no radiograph and knows no network.
"""

from training.data.phantom.drawing import Phantom, render
from training.data.phantom.parameters import DEMO_RANGES, TRAINING_RANGES, PhantomParameters, Ranges, draw_parameters

__all__ = ["DEMO_RANGES", "TRAINING_RANGES", "Phantom", "PhantomParameters", "Ranges", "draw_parameters", "render"]
