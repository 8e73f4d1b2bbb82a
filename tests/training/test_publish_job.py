"""The job that publishes, as a command: what cannot be published is said before an hour is spent on it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.inference_onnxruntime import load_session  # noqa: E402
from services.core.adapters.model_repository import ModelRepository, model_file  # noqa: E402
from services.core.adapters.signing import Trust  # noqa: E402
from services.core.adapters.store import Store  # noqa: E402
from services.core.domain.contracts import CONTRACTS, ENHANCER, SEGMENTER, SEX_ORDER  # noqa: E402
from services.core.domain.preprocess import HAND_PX  # noqa: E402
from services.core.runtime.settings import ModelSettings, read_settings  # noqa: E402
from tests.keys import make_keys  # noqa: E402
from tests.kills import kill_at_random, undisturbed  # noqa: E402
from tests.models import hand_picture  # noqa: E402
from tests.training.ellipses import draw_ellipses  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.enhancement.hands import made_by  # noqa: E402
from training.enhancement.planted import Detection  # noqa: E402
from training.evaluation.gate_figures import AS_SERVED, AT_FALSE_ALARMS, figures_for_card, gate_figures  # noqa: E402
from training.evaluation.measure import OnnxModel  # noqa: E402
from training.jobs.command import read_config  # noqa: E402
from training.jobs.publish import run  # noqa: E402
from training.jobs.publish_config import PublishConfig  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.publish.card import ORIGIN, origin_beside, revision  # noqa: E402
from training.run.exits import BadConfigurationError, ExitCode  # noqa: E402
from training.run.journal import read_journal  # noqa: E402

EMBEDDED = ModelRepository(read_settings(ModelSettings).model_repository)
PREPARING = {name: EMBEDDED.get().models[name] for name in (SEGMENTER, ENHANCER)}


def command(tmp_path, **changes):
    """The command, with this configuration; without changes, of weights and labels that are none."""
    labels, weights = tmp_path / "none.csv", {n: tmp_path / f"{n}.none" for n in ("segmenter", "enhancer", "reader")}
    for path in (labels, *weights.values()):
        path.touch()
    values = {
        "dataset": {"images": "none", "labels": str(labels)}, "masks": "none", "hands": "none",
        "store": str(tmp_path / "store"), "work": str(tmp_path / "work"), "release": "2031.1.1",
        "versions": {"hand_segmenter": 1, "radiograph_enhancer": 1, "boneage_regressor": 1},
        "segmenter": str(weights["segmenter"]), "enhancer": str(weights["enhancer"]),
        "reader": [str(weights["reader"])], "backbone": "resnet18",
        "trained_with": {"hand_segmenter": [], "radiograph_enhancer": [], "boneage_regressor": []},
        "maximum_structure_change": 0.45, "maximum_interval_width_months": 90, "refused_share": 0.001,
        "turned_share": 0.005, "fitting_images": 10, "seed": 1, "licence_notice": "for a test",
    } | changes  # fmt: skip
    path = tmp_path / "publish.yaml"
    path.write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "training.jobs.publish", "--config", str(path)]


def publish(tmp_path, **changes):
    """How the command ends with this configuration."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        command(tmp_path, **changes), env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def refusal(tmp_path, **changes):
    """Why the job does not take this configuration, or what it names."""
    path = Path(command(tmp_path, **changes)[-1])
    with pytest.raises(BadConfigurationError) as refused:
        run(read_config(PublishConfig, path))
    return str(refused.value)


def test_a_release_that_exists_is_left_as_it_is(tmp_path):
    """Releases never change: the job ends before it reads anything, and says which one is in the way."""
    manifest = tmp_path / "store" / "releases" / "2031.1.1.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    done = publish(tmp_path)
    assert done.returncode == ExitCode.BAD_CONFIGURATION
    assert "release 2031.1.1 is in" in done.stderr
    assert manifest.read_text() == "{}"
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["claimed"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reader": []}, "reader"),
        ({"seeds": 1}, "seeds"),
        ({"seed": None}, "seed"),
        ({"masks": None}, "a segmenter needs masks"),
        ({"backbone": None}, "a reader needs backbone"),
        ({"reader": None, "ensemble": [{"backbone": "resnet18", "weights": ["a.pt"]}]}, "an ensemble needs reader"),
        ({"ensemble": [{"backbone": "resnet18", "weights": []}]}, "ensemble.0.weights"),
        ({"trained_with": {}}, "trained_with does not say how"),
        ({"dataset": {"images": "a", "labels": "b", "split": "c"}, "licence_notice": None}, "licence_notice does not"),
        ({"enhancer": None, "enhancement_study": "gate.json"}, "an enhancement_study needs enhancer"),
        ({"enhancement_study": "gate.json"}, "gate.json holds no figures of a study"),
        (
            {"target": {"kind": "category", "classes": ["a", "b"]}},
            "versions may only name hand_segmenter, radiograph_enhancer, hand_classifier",
        ),
        ({"segmenter": None, "enhancer": None}, "lacks that version of hand_segmenter"),
        ({"signing_key": "absent.key"}, "absent.key: is no private key to sign with"),
        ({"store": "nothing://somewhere"}, "no client for nothing://"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, changes, named):
    """No runs to average, a key that there is none of, weights without what they need: each is in the message."""
    assert named in refusal(tmp_path, **changes)


COUNTS = {"train": 16, "validation": 30, "calibration": 110, "test": 30}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Radiographs with ages and classes and no sex, their prepared hands, and a store with the embedded models."""
    folder = tmp_path_factory.mktemp("project")
    for name, version in PREPARING.items():
        shutil.copytree(EMBEDDED.root / name / str(version), folder / "store" / name / str(version))
        shutil.copy(EMBEDDED.root / name / "config.pbtxt", folder / "store" / name)
    parts = [part for part, count in COUNTS.items() for _ in range(count)]
    (folder / "images").mkdir()
    rng = np.random.default_rng(1)
    ages = rng.uniform(20, 200, len(parts))
    picture = np.rint(hand_picture(320, 260) * 255).astype(np.uint8)
    for index, part in enumerate(parts):
        if part != "test":
            cv2.imwrite(str(folder / "images" / f"{index}.png"), np.roll(picture, index, axis=1))
        else:
            (folder / "images" / f"{index}.png").touch()  # its prepared hand is all that is read of it
    rows = [f"{i},{age:.0f},{'old' if age > 110 else 'young'}" for i, age in enumerate(ages)]
    (folder / "labels.csv").write_text("\n".join(["id,months,group", *rows]))
    (folder / "split.csv").write_text("\n".join(["id,part", *(f"{i},{part}" for i, part in enumerate(parts))]))
    models = [model_file(folder / "store", name, version) for name, version in PREPARING.items()]
    numbers = {"fraction": (0.3, 0.6), "certainty": (0.996, 0.999), "contrast": (0.9, 0.95)}
    columns = {"enhanced": ((HAND_PX, HAND_PX), "uint8")} | dict.fromkeys(numbers, ((), "float32"))
    prepared = Rows.make(folder / "hands", list(map(str, range(len(parts)))), columns, made_by=made_by(*models, 0.45))
    hand = cv2.resize(picture, (HAND_PX, HAND_PX)).astype(np.float64)
    for index, age in enumerate(ages):
        noisy = np.clip(hand * (0.4 + age / 400) + rng.normal(0, 2, hand.shape), 0, 255).astype(np.uint8)
        prepared.write(
            np.array([index]), enhanced=noisy[None], **{name: rng.uniform(*ends, 1) for name, ends in numbers.items()}
        )
    return folder


def configured(project, tmp_path, target, model, **changes):
    """What makes a release of this project's, with a reader of random weights; and the store, which is a copy."""
    store = shutil.copytree(project / "store", tmp_path / "store")
    torch.manual_seed(2)
    outputs = len(target["classes"]) if target["kind"] == "category" else 3
    weights = {"model": TransferNetwork("resnet18", outputs).state_dict(), "training_ids": ["before", KNOWN]}
    torch.save(weights, tmp_path / "reader.pt")
    (tmp_path / "run.yaml").write_text("made: for a test")
    dataset = {"images": str(project / "images"), "labels": str(project / "labels.csv"), "sex_column": None,
               "split": str(project / "split.csv"), "label_column": "group" if outputs == 2 else "months"}  # fmt: skip
    values = {
        "dataset": dataset, "masks": None, "hands": str(project / "hands"), "segmenter": None, "enhancer": None,
        "versions": PREPARING | {model: 1}, "reader": [str(tmp_path / "reader.pt")], "target": target,
        "trained_with": {model: [str(tmp_path / "run.yaml")]}, "fitting_images": 2, "refused_share": 0.02,
        "signing_key": str(make_keys(tmp_path).private), "store": store.as_uri(),
        "disturbed_share": {"tilted": 0.01, "badly_stored": 0.01},
    } | changes  # fmt: skip
    return store, values


KNOWN = str(COUNTS["train"])
"""Of the validation part; the weights have learnt from one of that name."""


def release_of(project, tmp_path, target, model, **changes):
    """The release that this makes, and its configuration."""
    store, values = configured(project, tmp_path, target, model, **changes)
    done = publish(tmp_path, **values)
    assert done.returncode == 0, done.stderr
    return ModelRepository(store), values


def test_a_release_of_ages_without_sexes_is_published_and_calibrated_again(project, tmp_path):
    """Both sexes are read as the unknown one; the same versions then make another release, with gates of its own.

    What reads is the mean of a network and of a published one.
    """
    serving = max((EMBEDDED.root / "boneage_regressor").glob("*/model.onnx"), key=lambda path: int(path.parent.name))
    beside = [{"backbone": "tf_efficientnet_lite0", "weights": [str(serving)]}]
    store, values = release_of(project, tmp_path, {"kind": "age"}, "boneage_regressor", ensemble=beside)
    release = store.get()
    by_sex = {
        sex: [(c.low_months, c.half_width_months) for c in release.interval_cells if c.sex == sex] for sex in SEX_ORDER
    }
    assert by_sex["male"] == by_sex["female"] == by_sex["unknown"]
    card = store.card("boneage_regressor", 1)
    figures = card["metrics"]["test"]
    assert figures["n"] == COUNTS["test"] == sum(band["n"] for band in figures["by_age_band"])
    held = figures["coverage"]
    assert (held["release"], held["n"]) == (release.id, COUNTS["test"])
    for bands in (held["by_predicted_age_band"], held["by_age_band"]):
        assert [sum(band[key] for band in bands) for key in ("n", "covered")] == [held["n"], held["covered"]]
    assert "coverage" not in card["metrics"]["validation"]
    beside_trained = json.loads((serving.parent / "card.json").read_text())["training_ids"]
    assert set(card["training_ids"]) == {str(i) for i in range(COUNTS["train"])} | {"before", KNOWN, *beside_trained}
    assert [member["backbone"] for member in card["members"]] == ["resnet18", "tf_efficientnet_lite0"]
    published = onnx.load(str(model_file(store.root, "boneage_regressor", 1))).graph
    assert any(weight.name.startswith("network.members.1.") for weight in published.initializer)
    manifest, signature = ((store.root / "releases" / f"2031.1.1.{kind}").read_bytes() for kind in ("json", "sig"))
    assert Trust((tmp_path / "release.pub",)).verify(manifest, signature, name="2031.1.1")
    hands = np.random.default_rng(1).random((2, HAND_PX, HAND_PX), np.float32)
    outputs = OnnxModel(CONTRACTS["boneage_regressor"], model_file(store.root, "boneage_regressor", 1))(hands)
    assert np.ptp(outputs["age_months"], axis=1).max() < 1e-3

    retried = publish(tmp_path, **values)
    assert (retried.returncode, "published already" in retried.stdout) == (0, True), retried.stderr
    assert store.get() == release

    unreadable = tmp_path / "unreadable"
    unreadable.mkdir()
    for image in (project / "images").iterdir():
        (unreadable / image.name).touch()
    changes = {"reader": None, "ensemble": [], "release": "2031.1.2", "turned_share": 0.2}
    lost = {"dataset": values["dataset"] | {"images": str(unreadable)}}
    said = refusal(tmp_path, **values | changes | lost)
    assert "disturbed_share: no radiograph is left that is badly stored or tilted" in said
    changes |= lost | {"disturbed_share": {}}
    again = publish(tmp_path, **values | changes)
    assert again.returncode == 0, again.stderr
    assert f"better than it is: {KNOWN}" in again.stderr
    second = ModelRepository(store.root).get()
    assert (second.id, second.models, second.interval_cells) == ("2031.1.2", release.models, release.interval_cells)
    limits = {limit.name: limit.minimum for limit in release.gates.typicality}
    stricter = {limit.name for limit in second.gates.typicality if limit.minimum > limits[limit.name]}
    assert "uprightness" in stricter
    assert all(limit.minimum >= limits[limit.name] for limit in second.gates.typicality)
    assert second.gates.minimum_mask_certainty > release.gates.minimum_mask_certainty


def test_a_killed_run_goes_on_and_publishes_the_same(project, tmp_path):
    """Killed at random moments, it ends with the release of one that was not: weights, limits, intervals, figures.

    Of a run that was killed after its claim, or between a version and the release, no other version is left.
    """
    ends = []
    for name, kills in (("whole", 0), ("killed", 3)):
        folder = tmp_path / name
        folder.mkdir()
        store, values = configured(project, folder, {"kind": "age"}, "boneage_regressor", versions=PREPARING)
        started = command(folder, **values)
        if kills:
            (folder / "work").mkdir()
            (folder / "work" / "claimant").write_text("ours")
            Store(str(store)).create("boneage_regressor/1/claim", b'{"token": "ours"}')
            kill_at_random(started, folder / "work", within_s=ends[0][0], times=kills)
        took = undisturbed(started, folder / "work")
        assert versions(store) == ["1"]
        ends.append((took, ModelRepository(store).get(), ModelRepository(store).card("boneage_regressor", 1)))
        steps = [entry["step"] for entry in read_journal(folder / "work")]
        assert steps == sorted(set(steps))
    (_, release, card), (_, other_release, other_card) = ends
    assert replace(other_release, files={}) == replace(release, files={})
    same = ("metrics", "parity", "model_sha256", "members")
    assert {key: other_card[key] for key in same} == {key: card[key] for key in same}
    assert (tmp_path / "killed" / "work" / "release.png").stat().st_size > 1000

    assert card["licence_notice"] == "for a test"
    for licence, left in (("for a test", ["1"]), ("another", ["1", "2"])):
        for written_last in ("2031.1.1.json", "current"):
            (store / "releases" / written_last).unlink()
        undisturbed(command(folder, **values | {"licence_notice": licence}), folder / "work")
        assert versions(store) == left
        assert ModelRepository(store).get().models["boneage_regressor"] == int(left[-1])
        (store / "releases" / "2031.1.1.sig").unlink()


def versions(store):
    """Numbers of the regressor's versions, in order."""
    return sorted(path.name for path in (store / "boneage_regressor").glob("[0-9]*"))


def test_a_release_of_classes_is_published(project, tmp_path):
    """Classes with their temperature and their set's least probability; the model serves under its contract.

    What its weights seem to have learnt from is named where it measures.
    """
    target = {"kind": "category", "classes": ["young", "old"]}
    repository, values = configured(project, tmp_path, target, "hand_classifier")
    done = publish(tmp_path, **values)
    assert done.returncode == 0, done.stderr
    measured = sum(COUNTS.values()) - COUNTS["train"]
    assert f"1 of {measured} radiographs measure or calibrate, and have the name" in done.stderr
    assert f"better than it is: {KNOWN}" in done.stderr
    store = ModelRepository(repository)
    release = store.get()
    assert release.classes.names == ("young", "old")
    assert release.reader == "hand_classifier"
    assert not release.interval_cells
    figures = store.card("hand_classifier", 1)["metrics"]["test"]
    assert sum(figures["by_class"].values()) == figures["n"] == COUNTS["test"]
    assert 0 <= figures["auc"] <= 1
    low, high = figures["coverage"]["coverage_ci95"]
    assert low <= figures["coverage"]["coverage"] <= high
    assert 1 <= figures["coverage"]["classes_in_set"] <= 2
    load_session(store.root, "hand_classifier", 1, threads=1)  # compares names and shapes with the contract


def test_the_card_of_a_new_enhancer_states_what_its_gate_sees(project, tmp_path):
    """From the study of these weights at this limit; a study of another limit ends the job before it begins."""
    torch.manual_seed(3)
    enhancer, target, number = tmp_path / "enhancer.pt", {"kind": "age"}, PREPARING[ENHANCER] + 1
    torch.save({"model": UNetGenerator().state_dict(), "selection_l1": 0.02}, enhancer)
    hands = shutil.copytree(project / "hands", tmp_path / "hands")
    described = json.loads((hands / "rows.json").read_text())
    described["made_by"] = made_by(model_file(project / "store", SEGMENTER, PREPARING[SEGMENTER]), enhancer, 0.45)
    (hands / "rows.json").write_text(json.dumps(described))
    found = dict.fromkeys((AT_FALSE_ALARMS, AS_SERVED), Detection(0.45, 0.08, {("erased", 8): (0.97, 30)}))
    study = tmp_path / "gate.json"
    study.write_text(json.dumps(gate_figures(found, {"new": enhancer}, limit=0.45, hands=40)))
    changes = {
        "hands": str(hands), "enhancer": str(enhancer), "enhancement_study": str(study),
        "versions": PREPARING | {ENHANCER: number, "boneage_regressor": 1},
        "trained_with": {key: [str(tmp_path / "run.yaml")] for key in ("radiograph_enhancer", "boneage_regressor")},
    }  # fmt: skip
    store, values = release_of(project, tmp_path, target, "boneage_regressor", **changes)
    metrics = store.card(ENHANCER, number)["metrics"]
    assert metrics["selection"] == {"l1": 0.02}
    assert metrics["gate"] == figures_for_card(study, enhancer, limit=0.45)
    assert metrics["gate"][AS_SERVED]["detected"][0]["share"] == 0.97

    refused = refusal(tmp_path, **values | {"release": "2031.1.2", "maximum_structure_change": 0.4})
    assert "gate.json is of the limit 0.45, not of 0.4" in refused


def test_published_models_go_into_a_store_of_ones_own(project, tmp_path):
    """Byte for byte, as their cards say that they were trained, with outlines of one's own to score the segmenter by.

    One that is lacking ends the job before it begins.
    """
    files = [model_file(EMBEDDED.root, name, version) for name, version in PREPARING.items()]
    own = draw_ellipses(tmp_path / "own", 3, test=(0, 2))
    names = (*PREPARING, "boneage_regressor")
    changes = {
        "segmenter": str(files[0]), "enhancer": str(files[1]), "masks": str(own / "masks"),
        "never_train": str(own / "test.csv"), "versions": dict.fromkeys(names, 1), "store": str(tmp_path / "another"),
    }  # fmt: skip
    _, values = configured(project, tmp_path, {"kind": "age"}, "boneage_regressor", **changes)
    (own / "test.csv").write_text("id\n0\n2\n7\n")
    assert "lacks 1 of the 3 outlines" in refusal(tmp_path, **values)
    assert not (tmp_path / "another" / "releases").exists()
    (own / "test.csv").write_text("id\n0\n2\n")
    done = publish(tmp_path, **values)
    assert done.returncode == 0, done.stderr
    store = ModelRepository(tmp_path / "another")
    assert store.card("hand_segmenter", 1)["metrics"]["mask_test"]["n"] == 2
    for name, file in zip(PREPARING, files, strict=True):
        assert model_file(store.root, name, 1).read_bytes() == file.read_bytes()
        card, beside = store.card(name, 1), json.loads(file.with_name("card.json").read_text())
        assert {key: card[key] for key in ORIGIN} == {key: beside[key] for key in ORIGIN}
    assert card["metrics"] == beside["metrics"]
    assert store.card("boneage_regressor", 1)["licence_notice"] == "for a test"


def test_a_file_without_a_card_does_not_say_how_it_was_trained(tmp_path):
    """Nor does one that lies beside something else: the message names both places where it could be said."""
    file = tmp_path / "model.onnx"
    with pytest.raises(BadConfigurationError, match=r"trained_with does not say how .*nor does a card beside it"):
        origin_beside(file)
    (tmp_path / "card.json").write_text("[1")
    with pytest.raises(BadConfigurationError, match=r"card\.json is no card"):
        origin_beside(file)


def test_hands_that_other_models_prepared_are_refused(project, tmp_path):
    """Gates and intervals fitted on hands that serving would prepare otherwise would be wrong."""
    shutil.copytree(project / "store", tmp_path / "store")
    torch.save({"model": TransferNetwork("resnet18", 3).state_dict()}, tmp_path / "reader.pt")
    refused = refusal(
        tmp_path, hands=str(project / "hands"), segmenter=None, enhancer=None, reader=[str(tmp_path / "reader.pt")],
        versions=PREPARING | {"boneage_regressor": 1}, maximum_structure_change=0.4,
        dataset={"images": str(project / "images"), "labels": str(project / "labels.csv"), "sex_column": None,
                 "split": str(project / "split.csv"), "label_column": "months"},
    )  # fmt: skip
    assert "were not prepared by the models of this release" in refused


def test_a_version_says_which_code_made_it(monkeypatch, tmp_path):
    """An image knows its source from the environment, a checkout from its history; where neither does, the job ends."""
    monkeypatch.setenv("SOURCE_REVISION", "abc")
    assert revision() == "abc"
    monkeypatch.delenv("SOURCE_REVISION")
    monkeypatch.chdir(tmp_path)
    assert len(revision()) == 40
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    with pytest.raises(BadConfigurationError, match="SOURCE_REVISION does not say"):
        revision()
