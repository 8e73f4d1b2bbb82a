"""The job of transfer learning as a command: own radiographs, own labels, killed and gone on with, wrong input."""

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

import timm  # noqa: E402
from safetensors.torch import save  # noqa: E402

from services.core.domain.metrics import area_under_roc  # noqa: E402
from services.core.runtime.settings import ModelSettings, read_settings  # noqa: E402
from tests.kills import kill_at_random, undisturbed  # noqa: E402
from tests.training.two_classes import COUNT, SIDE, command, config, discs, ended, source, weights  # noqa: E402
from tests.web import answering  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.publish.trained_on import trained_on  # noqa: E402


@pytest.fixture
def project(tmp_path):
    """Images of two classes, their table and split, prepared."""
    return discs(tmp_path)


def test_two_classes_are_learnt_from_configuration_alone(project):
    """Another bone, another table and a finding: weights, figures and a picture of the curves come out."""
    result = ended(config(project))
    assert result.returncode == 0, result.stderr
    figures = json.loads((project / "run" / "figures.json").read_text())["validation"]
    assert figures["auc"] > 0.9
    assert weights(project / "run")["head.weight"].shape[0] == 2
    assert cv2.imread(str(project / "run" / "curves.png")).shape[0] > 300


def test_a_run_that_learnt_from_something_else_is_refused(project):
    """Labels that were corrected, hands that were made anew: said, finished or not; its weights stay as they are."""
    path = config(project, stages=[{"trainable": [], "images": 80, "learning_rate": 0.02}])
    assert ended(path).returncode == 0
    made = (project / "run/weights.pt").read_bytes()
    assert ended(path).returncode == 0
    table = (project / "labels.csv").read_text()
    (project / "labels.csv").write_text(table.replace("wrist-7,sclerosis", "wrist-7,normal"))
    hands = json.loads((project / "hands/rows.json").read_text())
    (project / "hands/rows.json").write_text(json.dumps(hands | {"made_by": "another segmenter"}))
    refused = ended(path)
    assert refused.returncode == 64
    assert "was begun with other labels and hands than there are now" in refused.stderr
    (project / "labels.csv").write_text(table)
    assert "was begun with other hands than there are now" in ended(path).stderr
    assert (project / "run/weights.pt").read_bytes() == made


def test_a_network_learns_from_bad_files_too(project):
    """Discs are dark in files that are bad, and one hand has none: it learns these as well as the good ones."""
    hands = Rows.read(project / "hands")
    images = 255 - np.array(hands.columns["raw"])
    bad = Rows.make(project / "bad", list(hands.ids), {"raw": ((SIDE, SIDE), "uint8")}, made_by="test badly stored 1")
    there = np.delete(np.arange(COUNT), 1)  # of the train part, one has none
    bad.write(there, raw=images[there])
    stages = [{"trainable": [], "images": 320, "learning_rate": 0.02, "copies": 6, "cached": True}]
    areas = {}
    for name, files in (("good", None), ("both", str(project / "bad"))):
        path = config(project, source=source(project, bad_files=files), stages=stages, out=str(project / name))
        result = ended(path)
        assert result.returncode == 0, result.stderr
        network = TransferNetwork("mobilenetv3_small_050", 2).eval()
        network.load_state_dict(weights(project / name))
        with torch.inference_mode():
            logits = network(torch.from_numpy(images[:, None].astype(np.float32) / 255))[0].numpy()
        areas[name] = area_under_roc(logits[:, 1] - logits[:, 0], np.arange(COUNT) % 2 == 1)
    assert areas["both"] > max(0.8, areas["good"])


def test_good_and_bad_files_are_not_taken_for_each_other(project):
    """Neither folder stands for the other, and one of other radiographs has nothing to give; it is named."""
    bad = Rows.make(project / "bad", ["other"], {"raw": ((SIDE, SIDE), "uint8")}, made_by="test badly stored 1")
    bad.write(np.array([0]), raw=np.zeros((1, SIDE, SIDE), np.uint8))
    hands, bad = str(project / "hands"), str(project / "bad")
    for changes, reason in (
        ({"bad_files": hands}, f"bad_files: {hands} was prepared without badly_stored"),
        ({"hands": bad}, f"hands: {bad} was prepared with badly_stored"),
        ({"bad_files": bad}, f"bad_files: none of these radiographs is in {bad}"),
    ):
        refused = ended(config(project, source=source(project, **changes)))
        assert (refused.returncode, reason in refused.stderr) == (64, True), refused.stderr


def test_a_network_learns_from_what_a_better_one_reads(project):
    """The teacher reads once, and its readings serve whoever goes on; another teacher reads anew."""
    longer = {"stages": [{"trainable": ["exit", "middle", "entry"], "images": 800, "learning_rate": 0.003}]}
    assert ended(config(project, **longer)).returncode == 0
    known = torch.load(project / "run/weights.pt", weights_only=True)
    torch.save(known | {"training_ids": [*known["training_ids"], "of-another"]}, project / "run/weights.pt")
    teacher = {"members": [{"backbone": "mobilenetv3_small_050", "weights": [str(project / "run/weights.pt")]}]}
    wrong = project / "wrong.csv"
    lines = (project / "labels.csv").read_text().splitlines()
    findings = {"normal": "sclerosis", "sclerosis": "normal"}
    swapped = [f"{line.split(',')[0]},{findings[line.split(',')[1]]}" for line in lines[1:]]
    mixed = [right if i % 5 == 0 else other for i, (right, other) in enumerate(zip(lines[1:], swapped, strict=True))]
    wrong.write_text("\n".join([lines[0], *mixed]) + "\n")
    of_others = source(project)
    of_others["dataset"] |= {"labels": str(wrong)}
    taught = {"source": of_others, "teacher": teacher | {"share": 1.0}, "out": str(project / "taught")} | longer
    result = ended(config(project, **taught))
    assert result.returncode == 0, result.stderr
    lessons = Rows.read(project / "taught/lessons", write=True)
    says = lessons.columns["outputs"][:, 1] - lessons.columns["outputs"][:, 0]
    bright = [int(number) % 2 == 1 for number in sorted(str(i) for i in range(COUNT) if i % 5)]
    assert area_under_roc(says, np.array(bright)) > 0.9
    read = np.array(lessons.columns["outputs"])
    lessons.columns["outputs"][:] = read + 1
    assert ended(config(project, **taught)).returncode == 0
    np.testing.assert_array_equal(lessons.columns["outputs"], read + 1)
    lessons.done[3] = False  # as a kill leaves it
    assert ended(config(project, **taught)).returncode == 0
    assert lessons.done.all()
    np.testing.assert_allclose(lessons.columns["outputs"], read, atol=1e-4)
    train = {f"wrist-{i}" for i in range(COUNT) if i % 5}
    assert trained_on(project / "taught/weights.pt") == train | {"of-another"}
    figures = json.loads((project / "taught/figures.json").read_text())["validation"]
    assert figures["auc"] > 0.9, "it learnt from the labels of the train part, which are all wrong"
    other = {"members": [{"backbone": "resnet18", "weights": [str(wrong)]}]}
    result = ended(config(project, teacher=other, out=str(project / "other")))
    assert result.returncode == 64
    assert "resnet18" in result.stderr


def test_weights_say_what_they_come_from(project):
    """Also what those had learnt from that they begin with."""
    stages = [{"trainable": [], "images": 80, "learning_rate": 0.02}]
    torch.manual_seed(7)
    begun = {"model": TransferNetwork("mobilenetv3_small_050", 2).state_dict(), "training_ids": ["of-another"]}
    torch.save(begun, project / "begun.pt")
    result = ended(config(project, start_from=str(project / "begun.pt"), stages=stages))
    assert result.returncode == 0, result.stderr
    assert trained_on(project / "run/weights.pt") == {"of-another", *(f"wrist-{i}" for i in range(COUNT) if i % 5)}


def test_another_question_takes_over_what_lies_before_the_head(project):
    """From a run with three outputs to two classes: an untrained backbone keeps its bytes, the head is a new one."""
    first = project / "ages.pt"
    torch.manual_seed(7)
    ages = TransferNetwork("mobilenetv3_small_050", 3)
    torch.save({"model": ages.state_dict()}, first)
    stages = [{"trainable": [], "images": 80, "learning_rate": 0.02}]
    result = ended(config(project, start_from=str(first), stages=stages))
    assert result.returncode == 0, result.stderr
    trained = weights(project / "run")
    kept = {name: value for name, value in ages.state_dict().items() if not name.startswith("head.")}
    assert all(torch.equal(trained[name], value) for name, value in kept.items())
    assert trained["head.bias"].shape == (2,)


def test_killed_at_random_it_ends_with_the_same_weights(project):
    """The same bytes as an undisturbed run, and the same figures; the maps that were kept serve on."""
    seconds = undisturbed(command(config(project)), project / "run" / "tensorboard")
    path = config(project, out=str(project / "killed"), kept=str(project / "kept-by-the-killed"))
    kill_at_random(command(path), project / "killed" / "tensorboard", within_s=seconds, times=2)
    assert ended(path).returncode == 0
    whole, resumed = weights(project / "run"), weights(project / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (project / "run/figures.json").read_bytes() == (project / "killed/figures.json").read_bytes()


def test_a_run_that_goes_on_from_a_version_with_all_flows_can_be_killed(project):
    """It takes up the statistics that it began with, and ends with the same weights."""
    embedded = read_settings(ModelSettings).model_repository / "boneage_regressor"
    serving = max(embedded.glob("*/model.onnx"), key=lambda path: int(path.parent.name))
    stages = [{"trainable": ["exit", "middle", "entry"], "images": 160, "learning_rate": 0.001}]
    goes_on = {"backbone": "tf_efficientnet_lite0", "start_from": str(serving), "stages": stages}
    seconds = undisturbed(command(config(project, **goes_on)), project / "run" / "tensorboard")
    path = config(project, out=str(project / "killed"), **goes_on)
    kill_at_random(command(path), project / "killed" / "tensorboard", within_s=seconds, times=1)
    assert ended(path).returncode == 0
    whole, resumed = weights(project / "run"), weights(project / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    means = [value for name, value in whole.items() if name.endswith("running_mean")]
    assert all(mean.any() for mean in means)


def test_imagenet_weights_come_from_timms_hub(project):
    """Its own weights for three colours, out of a server that speaks as the hub does, and then out of the cache."""
    begun = timm.create_model("mobilenetv3_small_050").state_dict()
    headers = {"ETag": '"of-these-weights"', "X-Repo-Commit": "0" * 40}
    stages = [{"trainable": [], "images": 80, "learning_rate": 0.02}]
    path = config(project, start_from="imagenet", stages=stages)
    cache = {"HF_HUB_CACHE": str(project / "cache")}
    with answering(200, save(begun), headers) as hub:
        result = ended(path, HF_ENDPOINT=hub, **cache)
    assert result.returncode == 0, result.stderr
    trained = weights(project / "run")
    assert torch.equal(trained["backbone.blocks.0.0.conv_dw.weight"], begun["blocks.0.0.conv_dw.weight"])
    grey = begun["conv_stem.weight"].sum(dim=1, keepdim=True)
    assert torch.allclose(trained["backbone.conv_stem.weight"], grey, atol=1e-6)
    again = config(project, start_from="imagenet", stages=stages, out=str(project / "again"))
    assert ended(again, HF_ENDPOINT=hub, **cache).returncode == 0
    assert torch.equal(weights(project / "again")["head.weight"], trained["head.weight"])


def test_hub_that_does_not_give_the_weights_is_worth_another_try(project):
    """Nobody is asked, or says no: the message tells what to do. Unknown weights are none."""
    path, cache = config(project, start_from="imagenet"), {"HF_HUB_CACHE": str(project / "cache")}
    with answering(404) as hub:
        for result in (ended(path, HF_HUB_OFFLINE="1", **cache), ended(path, HF_ENDPOINT=hub, **cache)):
            assert result.returncode == 1, result.stderr
            assert "mobilenetv3_small_050 cannot be fetched from timm's hub; start from a file" in result.stderr
            assert "Traceback" not in result.stderr
    unknown = ended(config(project, start_from="imagenet", backbone="resnet50_mlp"), **cache)
    assert unknown.returncode == 64
    assert "timm has no weights of resnet50_mlp" in unknown.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": {"images": "enhanced"}}, "has no 'enhanced'"),
        ({"backbone": "xceptoin"}, "no backbone 'xceptoin'"),
        ({"backbone": "ghostnet_100"}, "do not follow in one line, as do those of the families xception, resnet"),
        ({"stage_map": {"middle": "blocks.9", "exit": "blocks.4"}}, "'blocks.9' is none of the blocks conv_stem"),
        ({"start_from": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"target": {"kind": "category", "classes": ["normal", "fracture"]}}, "is none of the classes"),
        ({"target": {"kind": "age"}}, "could not convert"),
        ({"stages": [{"trainable": ["head"], "images": 64, "learning_rate": 0.1}]}, "stages.0.trainable.0"),
        ({"stages": [{"trainable": [], "images": 4, "learning_rate": 0.1}]}, "a batch of 8 images is more than"),
        ({"source": {"hands": "nowhere"}}, "holds no prepared images"),
        ({"source": {"bad_files": "elsewhere"}}, "elsewhere holds no prepared images"),
        ({"side_pixels": 3}, "side_pixels"),
    ],
)
def test_wrong_configuration_ends_with_its_reason(project, changes, message):
    """One line on standard error and the exit status of a bad configuration, before anything is trained."""
    if "source" in changes:
        changes = {"source": source(project, **changes["source"])}
    result = ended(config(project, **changes))
    assert result.returncode == 64
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "run").exists()
