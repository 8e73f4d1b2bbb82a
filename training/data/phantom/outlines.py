"""Outlines of the hand's bones at three stages of life, measured on standard views: tables only, and their curves.

A long bone is described along its axis from the joint surface of its epiphysis (position 0) to its other end (1);
widths and positions are fractions of its whole length, cartilage included. Carpals are polygons in millimetres of an
adult hand about the centre of the capitate, x towards the thumb and y towards the fingers (shapes after Greulich and
Pyle's plates).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

STAGE_YEARS: Final = (1.0, 5.0, 17.0)
"""Maturity in years at which the three rows of `HALF_WIDTH` hold."""

POSITION: Final = (0.0, 0.03, 0.08, 0.14, 0.20, 0.28, 0.40, 0.55, 0.70, 0.82, 0.92, 0.975, 1.0)

HALF_WIDTH: Final[dict[str, tuple[tuple[float, ...], ...]]] = {
    "metacarpal": (
        (0.040, 0.080, 0.100, 0.106, 0.106, 0.100, 0.090, 0.085, 0.088, 0.096, 0.100, 0.080, 0.035),
        (0.040, 0.075, 0.095, 0.096, 0.092, 0.082, 0.070, 0.068, 0.073, 0.084, 0.098, 0.092, 0.050),
        (0.045, 0.092, 0.119, 0.121, 0.106, 0.085, 0.072, 0.070, 0.077, 0.093, 0.116, 0.116, 0.075),
    ),
    "metacarpal1": (
        (0.120, 0.170, 0.190, 0.190, 0.185, 0.175, 0.160, 0.150, 0.150, 0.155, 0.155, 0.130, 0.070),
        (0.110, 0.145, 0.155, 0.155, 0.152, 0.142, 0.130, 0.125, 0.130, 0.142, 0.142, 0.115, 0.060),
        (0.130, 0.165, 0.177, 0.168, 0.155, 0.140, 0.123, 0.120, 0.132, 0.158, 0.160, 0.130, 0.080),
    ),
    "proximal": (
        (0.140, 0.180, 0.190, 0.190, 0.188, 0.180, 0.168, 0.158, 0.142, 0.124, 0.108, 0.080, 0.035),
        (0.130, 0.150, 0.158, 0.160, 0.155, 0.135, 0.110, 0.100, 0.105, 0.114, 0.113, 0.090, 0.045),
        (0.150, 0.168, 0.174, 0.168, 0.152, 0.132, 0.119, 0.117, 0.115, 0.116, 0.129, 0.122, 0.080),
    ),
    "middle": (
        (0.200, 0.250, 0.268, 0.270, 0.265, 0.250, 0.225, 0.200, 0.180, 0.165, 0.145, 0.110, 0.050),
        (0.180, 0.205, 0.215, 0.215, 0.205, 0.182, 0.150, 0.135, 0.138, 0.150, 0.152, 0.125, 0.065),
        (0.215, 0.240, 0.250, 0.240, 0.215, 0.185, 0.160, 0.157, 0.165, 0.185, 0.204, 0.188, 0.120),
    ),
    "distal": (
        (0.190, 0.235, 0.250, 0.250, 0.245, 0.225, 0.180, 0.145, 0.122, 0.110, 0.098, 0.075, 0.035),
        (0.190, 0.220, 0.232, 0.230, 0.220, 0.190, 0.140, 0.110, 0.110, 0.135, 0.140, 0.115, 0.055),
        (0.235, 0.280, 0.290, 0.270, 0.230, 0.180, 0.130, 0.112, 0.122, 0.165, 0.190, 0.160, 0.080),
    ),
}

FAR_END: Final[dict[str, tuple[float, float, float]]] = {
    "metacarpal": (0.955, 0.975, 1.0),
    "metacarpal1": (0.95, 0.975, 1.0),
    "proximal": (0.95, 0.975, 1.0),
    "middle": (0.94, 0.97, 1.0),
    "distal": (0.93, 0.97, 1.0),
}
"""How far ossification reaches towards the end without an epiphysis, at `STAGE_YEARS`; the rest is cartilage."""

EPIPHYSIS: Final[dict[str, tuple[float, float, float]]] = {
    "metacarpal": (0.185, 0.19, 0.165),
    "metacarpal1": (0.16, 0.14, 0.125),
    "proximal": (0.150, 0.125, 0.105),
    "middle": (0.165, 0.140, 0.125),
    "distal": (0.20, 0.165, 0.145),
}
"""Position of the metaphysis (end of the growth plate) at `STAGE_YEARS`: cartilage and epiphysis lie before it."""

CARPALS: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "capitate": (
        (-7, 9.5),
        (0, 11),
        (7, 9.5),
        (7.5, 3),
        (5.5, -4),
        (4.5, -10),
        (0, -12.5),
        (-5, -10),
        (-6.3, -3),
        (-7, 3),
    ),
    "hamate": ((-21, 7), (-15, 10), (-8, 10), (-7.5, 2), (-6.5, -6), (-8, -10.5), (-13, -6), (-19.5, 0.5)),
    "triquetral": ((-22.5, -4), (-16, -5), (-10.5, -10), (-11, -15.5), (-16, -16.5), (-22, -12)),
    "pisiform": ((-23, -9), (-18, -7), (-14.5, -10), (-15.5, -15), (-20, -16), (-23.5, -13)),
    "lunate": ((-11, -13.5), (-5, -12), (0, -13.5), (3.2, -16.5), (2, -22), (-3, -24.5), (-9, -23), (-12.3, -18)),
    "scaphoid": ((4.5, -12), (7, -7), (12, -3.5), (18, -4), (21, -8), (17.5, -13), (12, -19), (5, -21.5), (2.2, -17)),
    "trapezoid": ((8, 9), (13, 11.5), (18, 8.5), (17.5, 1), (12.5, -2.5), (8, -0.5)),
    "trapezium": ((17, 6), (22, 9.5), (29, 7.5), (33, 0), (28, -6), (21.5, -5.5), (17, -1.5)),
}


def smooth_closed(points: Points, *, per_side: int = 12) -> Points:
    """A closed Catmull-Rom curve through (N, 2) points: (N * per_side, 2)."""
    before, after, last = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0), np.roll(points, -2, axis=0)
    t = np.linspace(0, 1, per_side, endpoint=False)[:, None, None]
    curve = 0.5 * (
        2 * points
        + (after - before) * t
        + (2 * before - 5 * points + 4 * after - last) * t**2
        + (3 * points - before - 3 * after + last) * t**3
    )
    return np.asarray(curve.transpose(1, 0, 2).reshape(-1, 2))


def at_stage(rows: tuple[tuple[float, ...], ...] | tuple[float, float, float], maturity_years: float) -> Points:
    """Interpolate three stages to a maturity in years, (3,) -> () or (3, K) -> (K,)."""
    table = np.asarray(rows, np.float64)
    weight = np.interp(maturity_years, STAGE_YEARS, (0.0, 1.0, 2.0))
    low = min(int(weight), 1)
    return np.asarray(table[low] + (table[low + 1] - table[low]) * (weight - low))
