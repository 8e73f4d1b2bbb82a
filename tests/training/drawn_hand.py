"""A hand with two centres of bone, drawn for the tests of what enhancement does to bone."""

import cv2
import numpy as np

SIDE = 96
CENTRES = ((30, 40, 6), (60, 55, 10))
"""Row, column and diameter of each centre of bone, px."""


def hand():
    """An ellipse of tissue with two round centres of bone, and their map."""
    image, bone = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(image, (SIDE // 2, SIDE // 2), (38, 44), 0, 0, 360, 0.4, -1)
    for row, column, diameter in CENTRES:
        cv2.circle(bone, (column, row), diameter // 2, 1, -1)
    image = image + np.where(bone > 0, np.float32(0.25), np.float32(0))
    inside = image > 0
    image = cv2.GaussianBlur(image, (0, 0), 1) + np.random.default_rng(0).normal(0, 0.01, image.shape)
    return np.where(inside, np.clip(image, 1 / 255, 1), 0).astype(np.float32), bone > 0
