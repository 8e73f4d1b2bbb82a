"""The loader of the challenge's layout: which radiographs there are, and their true aspect."""

import csv

import cv2
import numpy as np
import pytest

from services.core.domain.preprocess import FRAME_PX
from services.core.errors import InvalidRadiographError
from training.data.rsna import load_frames, read_grey, read_rsna

SIZES = {"9": (600, 300), "10": (200, 400), "2": (500, 500)}


@pytest.fixture
def root(tmp_path):
    """Four radiographs stored 60 x 60; one has no size, a fifth has a label but no file."""
    rows = [
        ("10", "150", "True"),
        ("9", "24", "False"),
        ("2", "7.5", "True"),
        ("11", "90", "False"),
        ("12", "3", "True"),
    ]
    write_csv(tmp_path / "boneage-training-dataset.csv", [("id", "boneage", "male"), *rows])
    write_csv(tmp_path / "image-size.csv", [("id", "height", "width"), *((id_, *size) for id_, size in SIZES.items())])
    (tmp_path / "boneage-training-dataset").mkdir()
    for id_, *_ in rows[:4]:
        picture = np.full((60, 60), 10 * int(id_), np.uint8)
        cv2.imwrite(str(tmp_path / "boneage-training-dataset" / f"{id_}.jpg"), picture)
    return tmp_path


def write_csv(path, rows):
    """Rows of a CSV file, with the byte order mark that spreadsheets put first."""
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)


def test_samples_are_those_with_label_and_file_in_order_of_id(root):
    """Ids are numbers: 9 comes before 10. A size that is not known is None."""
    samples = read_rsna(root)
    assert [(s.id, s.age_months, s.male, s.true_shape) for s in samples] == [
        ("2", 7.5, True, (500, 500)),
        ("9", 24.0, False, (600, 300)),
        ("10", 150.0, True, (200, 400)),
        ("11", 90.0, False, None),
    ]


def test_frames_have_the_aspect_at_acquisition(root):
    """A squashed image is restored; one of unknown size is taken as stored."""
    frames = load_frames(read_rsna(root), root / "cache" / "frames.npz")
    shapes = [frames.frame(index).shape for index in range(4)]
    half = round(FRAME_PX / 2)
    assert shapes == [(FRAME_PX, FRAME_PX), (FRAME_PX, half), (half, FRAME_PX), (FRAME_PX, FRAME_PX)]
    assert frames.frame(1).mean() == pytest.approx(90 / 255, abs=0.01)


def test_frames_are_kept_and_made_anew_when_the_ids_change(root):
    """The second call reads the cache, whatever became of the files; other ids are decoded again."""
    samples, cache = read_rsna(root), root / "frames.npz"
    first = load_frames(samples, cache)
    cv2.imwrite(str(samples[0].path), np.zeros((60, 60), np.uint8))
    np.testing.assert_array_equal(load_frames(samples, cache).pixels, first.pixels)
    assert load_frames(samples[:1], cache).frame(0).max() < 0.02


def test_a_file_that_is_no_image_is_named(tmp_path):
    """The error names the file and nothing of the path to it."""
    (tmp_path / "7.jpg").write_bytes(b"no image")
    with pytest.raises(InvalidRadiographError, match=r"^7\.jpg: not an image"):
        read_grey(tmp_path / "7.jpg")
