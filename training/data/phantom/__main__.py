"""Draws the samples of the demo: `python -m training.data.phantom --out deploy/samples`."""

import argparse
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from training.data.phantom import DEMO_RANGES, draw_parameters, render
from training.data.phantom.dicom import TRANSFER_SYNTAXES, write_dicom
from training.data.phantom.maturity import Sex

HEIGHT_PX: Final = 720
SEED: Final = 20_180
SAMPLES: Final[tuple[tuple[Sex, int, int], ...]] = (
    ("female", 30, 1),
    ("male", 45, 2),
    ("female", 54, 200),
    ("male", 96, 4),
    ("male", 120, 5),
    ("female", 144, 6),
    ("female", 42, 200),
    ("male", 174, 8),
)
"""Sex, age in months and number of the draw of each sample; draws that the gates refuse were passed over."""


def write_samples(out: Path) -> None:
    """Write all samples and `samples.csv`; the same program writes the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    rows = ["file,sex,age_months"]
    for number, (sex, age_months, draw) in enumerate(SAMPLES, 1):
        rng = np.random.default_rng((SEED, draw))
        phantom = render(draw_parameters(rng, age_months=age_months, sex=sex, ranges=DEMO_RANGES), height_px=HEIGHT_PX)
        name = f"phantom-{number:02d}.dcm"
        write_dicom(
            phantom,
            out / name,
            transfer_syntax=TRANSFER_SYNTAXES[number % len(TRANSFER_SYNTAXES)],
            photometric="MONOCHROME1" if number % 3 == 0 else "MONOCHROME2",
            number=number,
            window=number % 2 == 0,
        )
        rows.append(f"{name},{sex},{age_months}")
    (out / "samples.csv").write_text("\n".join(rows) + "\n")


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    cv2.setNumThreads(1)
    write_samples(parser.parse_args().out)


if __name__ == "__main__":
    main()
