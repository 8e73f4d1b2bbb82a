"""The drawn hand develops as children's hands do, its truth belongs to it, and its files say that it is drawn."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from services.core.adapters.imaging import Limits, decode_dicom
from training.data.phantom import DEMO_RANGES, TRAINING_RANGES, Phantom, draw_parameters, render
from training.data.phantom.__main__ import SAMPLES, write_samples
from training.data.phantom.dicom import LEVELS, TRANSFER_SYNTAXES, stored_values, write_dicom
from training.data.phantom.maturity import FUSION_YEARS, ONSET_YEARS, epiphysis

HEIGHT_PX = 200
ROOT = Path(__file__).parents[2]


def drawn(age_months: float, sex: str = "female", seed: int = 1) -> Phantom:
    """A small phantom."""
    return render(draw_parameters(np.random.default_rng(seed), age_months=age_months, sex=sex), height_px=HEIGHT_PX)


def ossified_share(phantom: Phantom) -> float:
    """Part of the hand that is ossified epiphyses and carpals."""
    return float((phantom.ossification == 2).sum() / phantom.mask.sum())


def test_same_parameters_draw_the_same_bytes():
    """All randomness is in the parameters."""
    assert drawn(100).pixels.tobytes() == drawn(100).pixels.tobytes()
    assert drawn(100, seed=2).pixels.tobytes() != drawn(100).pixels.tobytes()


@pytest.mark.parametrize("age_months", [12, 96, 216])
def test_truth_belongs_to_the_picture(age_months):
    """Grey levels are in [0, 1], every label lies in the hand, and the hand is denser than the air around it."""
    phantom = drawn(age_months)
    assert phantom.pixels.dtype == np.float32
    assert phantom.pixels.shape == phantom.mask.shape == phantom.ossification.shape
    assert phantom.pixels.min() >= 0
    assert phantom.pixels.max() <= 1
    assert not phantom.ossification[~phantom.mask].any()
    assert set(np.unique(phantom.ossification)) <= {0, 1, 2}
    assert phantom.pixels[phantom.mask].mean() > phantom.pixels[~phantom.mask].mean() + 0.1


def test_ossification_grows_with_age():
    """From one to fourteen years ever more of the hand is ossified centre."""
    shares = [ossified_share(drawn(age)) for age in (12, 48, 84, 120, 168)]
    assert shares == sorted(shares)
    assert shares[-1] > 5 * shares[0]


def test_girls_are_ahead_of_boys():
    """At equal age a girl's hand is further on."""
    assert ossified_share(drawn(72, "female")) > ossified_share(drawn(72, "male"))


@pytest.mark.parametrize("sex", ["male", "female"])
def test_growth_plates_open_and_close(sex):
    """No long bone is fused at six years, every one at nineteen."""
    bones = [bone if bone in ONSET_YEARS else f"{bone}2" for bone in FUSION_YEARS]
    assert all(epiphysis(bone, age_years=6, sex=sex).fusion == 0 for bone in bones)
    assert all(epiphysis(bone, age_years=19.5, sex=sex).fusion == 1 for bone in bones)


def test_samples_come_from_where_nothing_else_is_drawn():
    """Seeds, and at least one interval of parameters, of demo and training do not meet."""
    assert DEMO_RANGES.first_seed >= TRAINING_RANGES.last_seed
    apart = [
        name
        for name, (low, high) in DEMO_RANGES.intervals.items()
        if low > TRAINING_RANGES.intervals[name][1] or high < TRAINING_RANGES.intervals[name][0]
    ]
    assert len(apart) >= 4


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.name)
def test_every_file_holds_the_drawn_pixels(syntax, photometric, tmp_path):
    """Lossless syntaxes give back each stored value, and our decoder the picture; the file says that it is drawn."""
    phantom = drawn(110)
    path = tmp_path / "phantom.dcm"
    write_dicom(phantom, path, transfer_syntax=syntax, photometric=photometric, number=3, window=True)
    dataset = dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(dataset.pixel_array, stored_values(phantom, photometric=photometric))
    assert "not a radiograph of a person" in dataset.ImageComments
    decoded = decode_dicom(path.read_bytes(), limits=Limits())
    assert decoded.sex == "female"
    assert np.corrcoef(decoded.pixels.ravel(), phantom.pixels.ravel())[0, 1] > 0.999
    assert LEVELS == 4095


def test_committed_samples_are_what_the_command_draws(tmp_path):
    """The pixels of `deploy/samples` can be drawn again; a level may differ where another processor rounds."""
    write_samples(tmp_path)
    committed = ROOT / "deploy" / "samples"
    assert (committed / "samples.csv").read_text() == (tmp_path / "samples.csv").read_text()
    for number in range(1, len(SAMPLES) + 1):
        name = f"phantom-{number:02d}.dcm"
        now, then = (dcmread(folder / name).pixel_array.astype(int) for folder in (tmp_path, committed))
        assert np.abs(now - then).max() <= 2
