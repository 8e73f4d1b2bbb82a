"""The job that prepares hands: as serving would, row by row, with what cannot be prepared named."""

import csv
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.release_manifest import release_from_json, release_to_json  # noqa: E402
from services.core.domain.gates import mask_certainty  # noqa: E402
from services.core.domain.preprocess import hand_image  # noqa: E402
from services.core.domain.upright import DOUBTFUL  # noqa: E402
from services.core.runtime.settings import EMBEDDED_REPOSITORY  # noqa: E402
from tests.disks import small_disk  # noqa: E402
from tests.kills import kill_at_random, undisturbed  # noqa: E402
from tests.models import hand_picture  # noqa: E402
from training.data.augment import badly_stored  # noqa: E402
from training.data.radiographs import read_frame  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.enhancement.hands import frame_masks, load_segmenter  # noqa: E402
from training.evaluation.hands_sheet import LINE_PX, draw_hands  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.run.journal import read_journal  # noqa: E402

COUNT = 20
PATIENCE_S = 240


@pytest.fixture
def project(tmp_path):
    """Radiographs of bright ellipses, one of them broken and one without contrast, and two networks."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        picture = rng.integers(0, 30, (160, 120)).astype(np.uint8)
        axes = (int(rng.integers(20, 45)), int(rng.integers(40, 70)))
        cv2.ellipse(picture, (60, 80), axes, float(rng.uniform(0, 30)), 0, 360, 180, -1)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
    (tmp_path / "images" / "7.png").write_bytes(b"no image")
    ids = [str(number) for number in range(COUNT)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,boneage,male", *(f"{i},100,True" for i in ids)]) + "\n")
    (tmp_path / "split.csv").write_text("\n".join(["id,part", *(f"{i},train" for i in ids)]) + "\n")
    torch.manual_seed(0)
    torch.save({"model": FCDenseNet().state_dict()}, tmp_path / "segmenter.pt")
    torch.save({"model": UNetGenerator().state_dict()}, tmp_path / "enhancer.pt")
    return tmp_path


def config(project, **changes):
    """The job's command line, with changes to its configuration."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    values = {
        "dataset": dataset, "out": str(project / "hands"), "segmenter": str(project / "segmenter.pt"),
        "enhancer": str(project / "enhancer.pt"), "processes": 1,
    }  # fmt: skip
    path = project / f"{len(list(project.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return [sys.executable, "-m", "training.jobs.hands", "--config", str(path)]


def ended(command):
    """The job, to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def failures(project):
    """What the job could not prepare, by id."""
    with (project / "hands" / "failures.csv").open(newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def test_killed_at_random_it_goes_on_and_names_what_it_could_not_prepare(project):
    """Every row comes but the broken file's, as undisturbed; mended, that one too; each is what serving makes."""
    seconds = undisturbed(config(project, out=str(project / "whole")), project / "whole" / "tensorboard")
    command = config(project)
    kill_at_random(command, project / "hands" / "tensorboard", within_s=seconds, times=2)
    done = ended(command)
    assert done.returncode == 0, done.stderr
    assert "1 of 20 radiographs could not be prepared: 7" in done.stderr
    assert failures(project).keys() == {"7"}
    prepared = Rows.read(project / "hands")
    assert prepared.missing.tolist() == [7]
    assert [entry["step"] for entry in read_journal(project / "hands")] == [20]
    made = {path.name for path in (project / "whole").iterdir()} - {"log.jsonl", "tensorboard", "config.yaml"}
    assert {"raw.bin", "segmented.bin", "enhanced.bin", "done.bin", "rows.json", "failures.csv", "hands.png"} <= made
    assert all((project / "whole" / name).read_bytes() == (project / "hands" / name).read_bytes() for name in made)

    picture = cv2.imread(str(project / "images" / "6.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(project / "images" / "7.png"), picture)
    assert ended(command).returncode == 0
    assert [entry["step"] for entry in read_journal(project / "hands")] == [20]
    assert failures(project) == {}
    prepared = Rows.read(project / "hands")
    assert prepared.done.all()
    assert all(np.array_equal(column[6], column[7]) for column in prepared.columns.values())

    frame = read_frame(project / "images" / "6.png", None)
    ((_, mask),) = frame_masks(load_segmenter(project / "segmenter.pt"), [frame])
    expected = np.rint(hand_image(frame, mask)[0] * 255)
    np.testing.assert_allclose(prepared.columns["segmented"][6], expected, atol=1)
    assert prepared.columns["fraction"][6] == pytest.approx(mask.mean(), abs=1e-3)


class Brightness(torch.nn.Module):
    """What is bright is hand; of a radiograph that is bright on the whole, a negative, only the darkest bone."""

    def forward(self, x):
        """Logits."""
        negative = x.mean(dim=(1, 2, 3), keepdim=True) > 0.5
        return torch.where(negative, 0.15 - x, x - 0.25) * 60


def test_a_negative_is_outlined_as_its_positive():
    """Among others, though the network alone finds but the brightest bone in it; as serving does."""
    picture = hand_picture()
    frames = [picture, np.float32(1) - picture, picture[:, ::-1]]
    (_, first), (probability, second), (_, third) = frame_masks(Brightness(), frames)
    assert (first == second).mean() > 0.99
    assert (probability > 0.5).mean() == pytest.approx(first.mean(), abs=0.01)
    assert (first == third[:, ::-1]).mean() > 0.99
    assert first.mean() > 0.2


class Upright(Brightness):
    """Certain where a wrist comes in from below; of others it finds but the brightest bone, and doubts that."""

    def forward(self, x):
        """Logits."""
        quarter = x.shape[2] // 4
        wrist = (x[:, :, -quarter:] - x[:, :, :quarter]).mean(dim=(1, 2, 3), keepdim=True)
        return torch.where(wrist > 0.05, super().forward(x), x - 0.75)


def test_what_lies_is_outlined_as_what_is_upright():
    """Though the network is certain of no hand but with its fingers up; as serving does."""
    picture = hand_picture()
    frames = [np.ascontiguousarray(np.rot90(picture, quarter)) for quarter in range(4)]
    found = [
        (np.rot90(p, -quarter), np.rot90(mask, -quarter))
        for quarter, (p, mask) in enumerate(frame_masks(Upright(), frames))
    ]
    for probability, mask in found:
        assert (mask == (picture > 0.25)).mean() > 0.97
        assert (probability > 0.5).mean() == pytest.approx(mask.mean(), abs=0.01)


class Pale(Brightness):
    """Doubts the hand with its fingers up, and is certain of its brightest bone in the other turns."""

    def forward(self, x):
        """Logits."""
        quarter = x.shape[2] // 4
        wrist = (x[:, :, -quarter:] - x[:, :, :quarter]).mean(dim=(1, 2, 3), keepdim=True)
        return torch.where(wrist > 0.05, (x - 0.25).sign() * 1.5, (x - 0.92).sign() * 9)


def test_a_bone_that_is_certain_in_another_turn_is_not_taken_for_the_hand():
    """The mask of the hand as it came stays, though it is doubted."""
    picture = hand_picture()
    ((probability, mask),) = frame_masks(Pale(), [picture])
    assert (mask == (picture > 0.25)).mean() > 0.97
    assert mask_certainty(probability, mask) < DOUBTFUL


def test_a_radiograph_whose_shape_is_corrected_is_prepared_again(project):
    """The others are not."""
    assert ended(config(project)).returncode == 0
    before = {name: column.copy() for name, column in Rows.read(project / "hands").columns.items()}
    (project / "sizes.csv").write_text("id,height,width\n6,400,100\n")
    files = {"images": "images", **{name: f"{name}.csv" for name in ("labels", "split", "sizes")}}
    dataset = {name: str(project / file) for name, file in files.items()}
    done = ended(config(project, dataset=dataset))
    assert done.returncode == 0, done.stderr
    after = Rows.read(project / "hands").columns
    changed = [row for row in range(COUNT) if not np.array_equal(before["segmented"][row], after["segmented"][row])]
    assert changed == [6]


def test_rows_of_another_model_are_not_mixed(project):
    """A new segmenter needs a new folder; nothing is written into the old one."""
    command = config(project)
    assert ended(command).returncode == 0
    before = (project / "hands" / "segmented.bin").read_bytes()
    torch.manual_seed(1)
    torch.save({"model": FCDenseNet().state_dict()}, project / "segmenter.pt")
    refused = ended(command)
    assert refused.returncode == 64
    assert "made with other models or settings" in refused.stderr
    assert (project / "hands" / "segmented.bin").read_bytes() == before


def test_bad_files_are_prepared_as_serving_would_prepare_them(project):
    """Each radiograph becomes the bad file that the seed and its name draw; in one folder all are the same seed's."""
    command = config(project, badly_stored=3, enhancer=None)
    assert ended(command).returncode == 0
    prepared, segmenter = Rows.read(project / "hands"), load_segmenter(project / "segmenter.pt")
    compared = 0
    torch.set_num_threads(1)  # as in the job: of a network that knows nothing every rounding decides
    for number in np.flatnonzero(prepared.done):
        frame = read_frame(project / "images" / f"{number}.png", None)
        bad = badly_stored(frame, np.random.default_rng((3, *str(number).encode())))
        ((_, mask),) = frame_masks(segmenter, [bad])
        expected = np.rint(hand_image(bad, mask)[0] * 255)
        np.testing.assert_allclose(prepared.columns["segmented"][number], expected, atol=1)
        compared += not np.array_equal(frame, bad)
    assert compared > COUNT / 2
    for other in ({"badly_stored": 4}, {}):
        refused = ended(config(project, enhancer=None, **other))
        assert (refused.returncode, "made with other models or settings" in refused.stderr) == (64, True)


def test_it_goes_on_with_the_versions_that_served_as_it_began(project):
    """Whatever serves by now; in another folder it is that."""
    store = shutil.copytree(EMBEDDED_REPOSITORY, project / "store")
    current = store / "releases" / "current"
    serving = {"segmenter": {"store": str(store), "model": "hand_segmenter"}, "enhancer": None}
    (project / "labels.csv").write_text("id,boneage,male\n6,100,True\n")
    assert ended(config(project, **serving)).returncode == 0
    before = Rows.read(project / "hands", write=True)
    before.done[:] = False
    models = release_from_json((store / "releases" / f"{current.read_text().strip()}.json").read_text(), source="it")
    later = replace(models, id="2031.1.1", models=models.models | {"hand_segmenter": 9}, files={})
    (store / "releases" / "2031.1.1.json").write_text(release_to_json(later))
    current.write_text("2031.1.1\n")
    done = ended(config(project, **serving))
    assert done.returncode == 0, done.stderr
    assert "goes on with version 2 of hand_segmenter, which served when it was begun" in done.stderr
    after = Rows.read(project / "hands")
    assert (after.done.tolist(), after.made_by) == ([True], before.made_by)
    complete = ended(config(project, **serving))
    assert complete.returncode == 64
    assert "made with version 2 of hand_segmenter; version 9 serves now: name another folder" in complete.stderr
    refused = ended(config(project, **serving, out=str(project / "others")))
    assert (refused.returncode, "has no version 9 of hand_segmenter" in refused.stderr) == (64, True), refused.stderr


@pytest.mark.parametrize("name", ["segmenter.pt", "segmenter.onnx"])
def test_weights_of_something_else_are_refused_before_anything_is_prepared(project, name):
    """Neither a damaged checkpoint nor a damaged export starts a process; the file is named."""
    (project / name).write_bytes(b"no weights")
    refused = ended(config(project, segmenter=str(project / name)))
    assert refused.returncode == 64
    assert f"{name} holds no weights of this network" in refused.stderr
    assert not (project / "hands" / "rows.json").exists()


def test_full_disk_is_told_before_anything_is_prepared(project):
    """No room for all rows: the exit status of a store that cannot be written, the file's name, and nothing left."""
    with small_disk(project / "disk", kilobytes=512) as disk:
        refused = ended(config(project, out=str(disk / "hands")))
        assert refused.returncode == 74, refused.stderr
        assert "raw.bin cannot be written" in refused.stderr
        assert sorted(path.name for path in (disk / "hands").iterdir()) == ["claimed", "running"]


@pytest.mark.parametrize("count", [0, 3, 30])
def test_sheet_shows_some_of_the_hands_that_are_there(tmp_path, count):
    """A column for each, named, with its forms below one another; the same ones whenever it is drawn."""
    ids = [f"hand-{number}" for number in range(40)]
    columns = {"raw": ((32, 32), "uint8"), "segmented": ((32, 32), "uint8"), "fraction": ((), "float32")}
    prepared = Rows.make(tmp_path / "hands", ids, columns, made_by="test")
    there = np.arange(count)
    flat = np.ones((count, 32, 32), np.uint8) * (there + 1)[:, None, None].astype(np.uint8)
    prepared.write(there, raw=flat, segmented=flat + 100, fraction=np.zeros(count, np.float32))
    for name in ("sheet.png", "again.png"):
        draw_hands(prepared, tmp_path / name, failed=2)
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    sheet = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape == (2 * LINE_PX + 64, 8 * 32)
    assert sheet[:LINE_PX].any()
    raw, segmented = sheet[2 * LINE_PX : -32], sheet[-32:]
    shown = [int(number) for number in raw[16, 16::32] if number]
    assert len(set(shown)) == min(8, count)
    assert set(shown) <= set(range(1, count + 1))
    assert np.array_equal(segmented[raw > 0], raw[raw > 0] + 100)
