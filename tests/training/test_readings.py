"""What a reader said of hands is kept for a killed run, and for that reader and those hands alone."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.model_repository import model_file
from services.core.domain.contracts import CONTRACTS, REGRESSOR
from services.core.domain.preprocess import HAND_PX
from tests.models import write_repository
from training.data.rows import Rows
from training.evaluation.measure import OnnxModel
from training.publish.material import Material
from training.publish.readings import readings
from training.run.advance import advancing

COUNT = 20


@pytest.fixture
def material(tmp_path):
    """Twenty hands of noise."""
    columns = {"enhanced": ((HAND_PX, HAND_PX), "uint8")}
    prepared = Rows.make(tmp_path / "hands", [str(i) for i in range(COUNT)], columns, made_by="x")
    hands = np.random.default_rng(1).integers(0, 256, (COUNT, HAND_PX, HAND_PX), np.uint8)
    prepared.write(np.arange(COUNT), enhanced=hands)
    zeros = np.zeros(COUNT)
    return Material(
        np.full(COUNT, "test"), zeros.astype(np.float32), zeros.astype(np.int64), np.arange(COUNT), prepared
    )


def test_what_is_kept_is_of_this_reader_and_of_these_hands(material, tmp_path):
    """A mark in what is kept stays while both are the same, and a part that is missing is read; else all is."""
    reader = OnnxModel(CONTRACTS[REGRESSOR], model_file(write_repository(tmp_path / "models"), REGRESSOR, 1))

    def ages(said_by="one"):
        with advancing(tmp_path / "log", title="read", total=COUNT) as advance:
            found = readings(reader, material, tmp_path / "kept", said_by=said_by, advance=advance)
        return found["age_months"]

    before = ages()
    kept = Rows.read(tmp_path / "kept", write=True)
    kept.columns["age_months"][0] = -1
    kept.done[16:] = False
    kept.columns["age_months"][16:] = 0
    marked = before.copy()
    marked[0] = -1
    np.testing.assert_array_equal(ages(), marked)
    np.testing.assert_array_equal(ages("another"), before)
    kept = Rows.read(tmp_path / "kept", write=True)
    kept.columns["age_months"][0] = -1
    material.prepared.columns["enhanced"][5] = 0
    again = ages("another")
    np.testing.assert_array_equal(np.delete(again, 5, axis=0), np.delete(before, 5, axis=0))
    assert not np.array_equal(again[5], before[5])
