"""Memory does not grow with the number of radiographs: four times as many have the peak of a few."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.model_repository import model_file  # noqa: E402
from services.core.domain.contracts import CONTRACTS, REGRESSOR, SEGMENTER  # noqa: E402
from services.core.domain.preprocess import HAND_PX  # noqa: E402
from tests.models import hand_picture, write_repository  # noqa: E402
from training.data.masks import read_masks  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.evaluation.measure import OnnxModel, segmenter_dice  # noqa: E402
from training.jobs import enhancer, segmenter, transfer  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.publish.material import Material  # noqa: E402
from training.publish.readings import readings  # noqa: E402
from training.run.advance import advancing  # noqa: E402

HAND_BYTES = HAND_PX * HAND_PX
FLOAT_BYTES = 4
PATIENCE_S = 300
HANDS = """
import resource, sys, tracemalloc
from pathlib import Path
from training.jobs import hands
from training.jobs.command import read_config

prepared = hands.results

def results(*arguments, **options):
    tracemalloc.start()  # what weights took while they were read, and the picture takes, is another matter
    yield from prepared(*arguments, **options)
    print(tracemalloc.get_traced_memory()[1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    tracemalloc.stop()

if __name__ == "__main__":
    hands.CHUNK, hands.results = 2, results
    for path in sys.argv[1:]:
        hands.run(read_config(hands.HandsConfig, Path(path)))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A repository of tiny models."""
    return write_repository(tmp_path_factory.mktemp("repository"))


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that arrays and objects take while `work` is done."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def keep_hands(folder: Path, ids: list[str], column: str) -> None:
    """Prepared hands in that form, on disk: noise, of which nothing is zero."""
    hands = np.random.default_rng(0).integers(1, 255, (len(ids), HAND_PX, HAND_PX), dtype=np.uint8)
    prepared = Rows.make(folder, ids, {column: ((HAND_PX, HAND_PX), "uint8")}, made_by="test")
    prepared.write(np.arange(len(ids)), **{column: hands})


def test_a_release_is_measured_a_few_hands_at_a_time(models, tmp_path):
    """Of a part, only what the reader says of it is held: the publishing job's own step, on 16 and on 64 hands."""
    reader = OnnxModel(CONTRACTS[REGRESSOR], model_file(models, REGRESSOR, 1))
    few, many = 16, 64
    prepared = Rows.make(
        tmp_path / "hands", [str(i) for i in range(many)], {"enhanced": ((HAND_PX, HAND_PX), "uint8")}, made_by="x"
    )
    hand = np.rint(cv2.resize(hand_picture(), (HAND_PX, HAND_PX)) * 255).astype(np.uint8)
    prepared.write(np.arange(many), enhanced=np.broadcast_to(hand, (many, HAND_PX, HAND_PX)))
    zeros = np.zeros(many)
    drawn = iter(range(10))

    def read(count: int) -> dict[str, np.ndarray]:
        of_few = (np.full(count, "test"), zeros[:count].astype(np.float32), zeros[:count].astype(np.int64))
        material = Material(*of_few, np.arange(count), prepared)
        folder = tmp_path / f"read-{next(drawn)}"
        with advancing(folder, title="read", total=count) as advance:
            return readings(reader, material, folder, said_by="x", advance=advance)

    def measure(count: int) -> int:
        return peak_bytes(lambda: read(count))

    measure(few)
    assert measure(many) - measure(few) < (many - few) * HAND_BYTES * FLOAT_BYTES / 10
    ages = read(many)["age_months"]
    np.testing.assert_allclose(ages, np.tile(reader(np.float32(hand)[None] / 255)["age_months"], (many, 1)), rtol=1e-5)


def test_a_segmenter_is_scored_one_outline_at_a_time(models, tmp_path):
    """On 4 and on 16 outlined radiographs; those that are not held out are not even read."""
    few, many = 4, 16
    picture = np.rint(hand_picture() * 255).astype(np.uint8)
    for name, image in (("image", picture), ("mask", np.where(picture > 64, 255, 0).astype(np.uint8))):
        (tmp_path / name).mkdir()
        for number in range(many):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), image)
        (tmp_path / name / "learnt-from.png").write_bytes(b"no image")
    model = OnnxModel(CONTRACTS[SEGMENTER], model_file(models, SEGMENTER, 1))
    scores: list[dict[str, float]] = []

    def score(count: int) -> int:
        held = set(map(str, range(count)))
        return peak_bytes(lambda: scores.append(segmenter_dice(model, read_masks(tmp_path, {}, only=held))))

    score(few)
    assert score(many) - score(few) < (many - few) * picture.size * FLOAT_BYTES / 10
    assert [entry["n"] for entry in scores] == [few, many, few]
    assert scores[0]["dice_min"] > 0.95


def test_a_segmenter_learns_from_outlines_on_disk(tmp_path):
    """From 24 outlines as from 6: neither frames nor masks are held while it trains."""
    few, many = 6, 24
    picture = np.rint(hand_picture() * 255).astype(np.uint8)
    (tmp_path / "labels.csv").write_text("id,boneage,male\n0,100,True\n")
    (tmp_path / "none.csv").write_text("id\n")
    peaks = []
    for count in (few, few, many):  # the first time other things are loaded as well
        masks, out = tmp_path / f"masks-{count}", tmp_path / f"out-{len(peaks)}"
        for name, image in (("image", picture), ("mask", np.where(picture > 64, 255, 0).astype(np.uint8))):
            (masks / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                cv2.imwrite(str(masks / name / f"{number}.png"), image)
        config = segmenter.SegmenterConfig.model_validate({
            "dataset": {"images": masks / "image", "labels": tmp_path / "labels.csv"}, "masks": masks, "out": out,
            "never_train": tmp_path / "none.csv", "seed": 1, "selection_images": 1, "validate_every": 1,
            "phases": [{"size_px": 64, "steps": 1, "batch_size": 2, "learning_rate": 0.001}],
        })  # fmt: skip
        peaks.append(peak_bytes(lambda config=config: segmenter.run(config)))
        assert torch.load(out / "weights.pt", weights_only=True)["selection_dice"] >= 0
    assert peaks[2] - peaks[1] < (many - few) * picture.size * FLOAT_BYTES / 10


def test_a_network_learns_from_hands_on_disk(tmp_path):
    """From 400 hands as from 16: they stay mapped, and of a batch alone there are arrays."""
    few, many = 16, 400
    peaks = []
    for count in (few, few, many):  # the first time other things are loaded as well
        folder = tmp_path / str(len(peaks))
        (folder / "images").mkdir(parents=True)
        ids = [str(number) for number in range(count)]
        for id_ in ids:
            (folder / "images" / f"{id_}.png").touch()
        parts = ["validation" if number < 4 else "train" for number in range(count)]  # of few, whole batches are read
        (folder / "labels.csv").write_text("\n".join(["id,boneage,male", *(f"{id_},100,True" for id_ in ids)]))
        (folder / "split.csv").write_text("\n".join(["id,part", *map(",".join, zip(ids, parts, strict=True))]))
        keep_hands(folder / "hands", ids, "raw")
        config = transfer.TransferConfig.model_validate({
            "source": {"dataset": {"images": folder / "images", "labels": folder / "labels.csv",
                                   "split": folder / "split.csv"}, "hands": folder / "hands", "images": "raw"},
            "backbone": "mobilenetv3_small_050", "start_from": None, "target": {"kind": "age"}, "precision": "fp32",
            "stages": [{"trainable": ["exit"], "images": 8, "learning_rate": 0.001}],
            "fitting": {"batch_size": 2, "validate_every": 8, "seed": 1}, "out": folder / "out",
        })  # fmt: skip
        peaks.append(peak_bytes(lambda config=config: transfer.run(config)))
        assert (folder / "out" / "weights.pt").exists()
    assert peaks[2] - peaks[1] < (many - few) * HAND_BYTES / 5  # a batch ahead, or not, is less


def test_an_enhancer_learns_from_hands_on_disk(tmp_path):
    """From 400 hands as from 16, all of them its gold standard but the one that selects."""
    few, many = 16, 400
    peaks = []
    for count in (few, few, many):  # the first time other things are loaded as well
        folder = tmp_path / str(len(peaks))
        ids = [str(number) for number in range(count)]
        keep_hands(folder / "hands", ids, "segmented")
        (folder / "split.csv").write_text("\n".join(["id,part", *(f"{id_},train" for id_ in ids)]))
        config = enhancer.EnhancerConfig.model_validate({
            "hands": folder / "hands", "split": folder / "split.csv", "out": folder / "out", "seed": 1, "steps": 1,
            "gold_standard_images": count, "selection_images": 1, "batch_size": 2, "learning_rate": 0.001,
            "adversarial_weight": 0.01, "validate_every": 1,
        })  # fmt: skip
        peaks.append(peak_bytes(lambda config=config: enhancer.run(config)))
        assert (folder / "out" / "weights.pt").exists()
    assert peaks[2] - peaks[1] < (many - few) * HAND_BYTES / 10


def test_hands_are_prepared_a_few_at_a_time(tmp_path):
    """Of 16 radiographs the job holds no more rows than of 4, and the process that prepares them keeps nothing."""
    few, many = 4, 16
    torch.manual_seed(0)
    torch.save({"model": FCDenseNet().state_dict()}, tmp_path / "segmenter.pt")
    torch.save({"model": UNetGenerator().state_dict()}, tmp_path / "enhancer.pt")
    (tmp_path / "job.py").write_text(HANDS)
    command = [sys.executable, tmp_path / "job.py", *(hands_config(tmp_path, count) for count in (few, many))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert Rows.read(tmp_path / f"hands-{many}").done.all()
    held_few, preparing_few, held_many, preparing_many = map(int, done.stdout.split())
    assert held_many - held_few < (many - few) * 3 * HAND_BYTES / 2
    assert preparing_many - preparing_few < 2**25


def hands_config(folder, count):
    """A configuration of the job for so many radiographs, beside the two networks."""
    images = folder / f"images-{count}"
    images.mkdir()
    for number in range(count):
        picture = np.roll(np.rint(hand_picture(160, 130) * 255).astype(np.uint8), number, axis=1)
        cv2.imwrite(str(images / f"{number}.png"), picture)
    labels, split, config = (folder / f"{name}-{count}" for name in ("labels.csv", "split.csv", "hands.yaml"))
    labels.write_text("\n".join(["id,boneage,male", *(f"{i},100,True" for i in range(count))]))
    split.write_text("\n".join(["id,part", *(f"{i},train" for i in range(count))]))
    values = {
        "dataset": {"images": str(images), "labels": str(labels), "split": str(split)},
        "segmenter": str(folder / "segmenter.pt"), "enhancer": str(folder / "enhancer.pt"),
        "out": str(folder / f"hands-{count}"), "processes": 1,
    }  # fmt: skip
    config.write_text(yaml.safe_dump(values))
    return config
