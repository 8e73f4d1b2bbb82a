"""Networks that are served as one: their mean, with an activation map that stays exact."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.domain.contracts import CONTRACTS, REGRESSOR  # noqa: E402
from services.core.runtime.settings import ModelSettings, read_settings  # noqa: E402
from tests.training.test_networks import reading_ages, typicality  # noqa: E402
from training.evaluation.measure import OnnxModel  # noqa: E402
from training.models.ensemble import Ensemble  # noqa: E402
from training.models.regressor import AGE_MEAN_MONTHS, AGE_SCALE_MONTHS, TransferNetwork  # noqa: E402
from training.models.served import ServedReader  # noqa: E402
from training.publish.reader import Member, read_reader  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.transfer.target import AgeTarget, CategoryTarget  # noqa: E402

LITE, RESIDUAL = "tf_efficientnet_lite0", "resnet18"
SEXES = np.array([0, 1, 2])


@pytest.fixture(scope="module")
def members():
    """Two networks of different families with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return [TransferNetwork(name, 3).eval() for name in (LITE, RESIDUAL)]


def served(network, channels):
    """The graph that is exported."""
    scores = typicality(3 * channels)
    return ServedReader(network, scores, scale=AGE_SCALE_MONTHS, offset=AGE_MEAN_MONTHS).eval()


def published():
    """File of the regressor that is embedded."""
    found = (read_settings(ModelSettings).model_repository / REGRESSOR).glob("*/model.onnx")
    return max(found, key=lambda path: int(path.parent.name))


def test_it_answers_the_mean_and_its_map_explains_it(members):
    """Outputs are the members' mean; the map's mean plus the bias is the output."""
    together = served(Ensemble(members).eval(), 1280 + 512)
    images = torch.rand(3, 1, *CONTRACTS[REGRESSOR].inputs[0].dims[1:], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ages, activation, bias, _ = together(images)
        alone = [reading_ages(members[0])(images)[0], served(members[1], 512)(images)[0]]
    torch.testing.assert_close(ages, (alone[0] + alone[1]) / 2, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(activation.mean(dim=(2, 3)) + bias, ages, rtol=1e-5, atol=1e-3)
    assert float((alone[0] - alone[1]).abs().max()) > 0.1


def test_a_published_version_may_be_a_member(members, tmp_path):
    """What serves now and the weights of a run are read as one; what serves answers as it did."""
    torch.save({"model": members[1].state_dict()}, tmp_path / "weights.pt")
    chosen = [Member(LITE, [published()]), Member(RESIDUAL, [tmp_path / "weights.pt"])]
    reader = read_reader(chosen, AgeTarget(), SEXES)
    images = np.random.default_rng(3).random((2, *CONTRACTS[REGRESSOR].inputs[0].dims[1:]), np.float32)
    with torch.inference_mode():
        ages = served(reader, 1280 + 512)(torch.from_numpy(images)[:, None])[0].numpy()
        other = served(members[1], 512)(torch.from_numpy(images)[:, None])[0].numpy()
    serving = OnnxModel(CONTRACTS[REGRESSOR], published())(images)["age_months"]
    np.testing.assert_allclose(ages, (serving + other) / 2, atol=0.05)


def test_a_sex_that_nothing_was_trained_with_is_read_as_unknown(members, tmp_path):
    """In an ensemble as in one network."""
    for index, member in enumerate(members):
        torch.save({"model": member.state_dict()}, tmp_path / f"{index}.pt")
    chosen = [Member(LITE, [tmp_path / "0.pt"]), Member(RESIDUAL, [tmp_path / "1.pt"])]
    head = read_reader(chosen, AgeTarget(), np.array([0, 2])).head
    assert torch.equal(head.weight[1], head.weight[2])
    assert not torch.equal(head.weight[0], head.weight[2])


@pytest.mark.parametrize(
    ("beside", "target", "message"),
    [
        pytest.param(lambda _: Member(LITE, [published()] * 2), AgeTarget(), "has no mean", id="mean of published"),
        pytest.param(lambda _: Member(LITE, [published()]), CategoryTarget(("a", "b")), "another", id="other target"),
        pytest.param(lambda folder: Member(LITE, [folder / "there.pt"]), AgeTarget(), "there.pt", id="no file"),
        pytest.param(lambda folder: Member(LITE, [folder / "no.pt"]), AgeTarget(), "no.pt", id="no checkpoint"),
        pytest.param(lambda folder: Member("resnet", [folder / "first.pt"]), AgeTarget(), "no backbone", id="backbone"),
        pytest.param(lambda folder: Member("inception_v4", [folder / "v4.pt"]), AgeTarget(), "18 .*, inc", id="maps"),
    ],
)  # fmt: skip
def test_members_that_do_not_go_together_are_refused(tmp_path, beside, target, message):
    """The message says what is wrong with which weights."""
    (tmp_path / "no.pt").write_bytes(b"no checkpoint")
    for backbone, name in ((RESIDUAL, "first"), ("inception_v4", "v4")):
        torch.save({"model": TransferNetwork(backbone, target.outputs).state_dict()}, tmp_path / f"{name}.pt")
    with pytest.raises(BadConfigurationError, match=message):
        read_reader([Member(RESIDUAL, [tmp_path / "first.pt"]), beside(tmp_path)], target, SEXES)


def test_networks_of_other_questions_make_no_ensemble(members):
    """Heads of different sizes have no mean."""
    with pytest.raises(ValueError, match=r"have \[3, 2\] outputs"):
        Ensemble([members[0], TransferNetwork(RESIDUAL, 2)])


def test_of_the_mean_of_several_nothing_goes_on(members, tmp_path):
    """The message says why, since the backbone that is named may well be one of them."""
    weight = numpy_helper.from_array(np.zeros(1, np.float32), "network.members.0.backbone.conv_stem.weight")
    graph = helper.make_graph([], "g", [], [], initializer=[weight])
    onnx.save(helper.make_model(graph), str(tmp_path / "model.onnx"))
    with pytest.raises(BadConfigurationError, match="mean of several networks"):
        read_reader([Member(LITE, [tmp_path / "model.onnx"])], AgeTarget(), SEXES)
