"""Weights come back out of an exported version: training needs no checkpoint of a release that is there."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.model_repository import ModelRepository, model_file  # noqa: E402
from services.core.domain.contracts import CONTRACTS, ENHANCER, SEGMENTER  # noqa: E402
from services.core.runtime.settings import EMBEDDED_REPOSITORY  # noqa: E402
from training.enhancement.hands import load_enhancer, load_segmenter  # noqa: E402
from training.evaluation.measure import OnnxModel  # noqa: E402
from training.jobs.source import network  # noqa: E402
from training.models.enhancer import UNet, UNetGenerator  # noqa: E402
from training.models.exported import load_exported, restore_statistics  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.models.served import ServedReader, Typicality  # noqa: E402
from training.publish.export import export  # noqa: E402
from training.publish.kinds import kind_of  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.transfer.images import Examples  # noqa: E402
from training.transfer.target import AgeTarget, CategoryTarget  # noqa: E402

EXAMPLE = torch.zeros(1, 1, 64, 64)


def lived(network):
    """The network after batch norms have seen something, so that folding one is no identity."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 1.5, generator=generator)
            for values in (module.bias.data, module.running_mean):
                values.uniform_(-0.2, 0.2, generator=generator)
    return network.eval()


@pytest.mark.parametrize(("name", "load"), [(SEGMENTER, load_segmenter), (ENHANCER, load_enhancer)])
def test_the_embedded_release_comes_back(name, load):
    """Torch with the weights of an embedded file computes what the file does."""
    path = model_file(EMBEDDED_REPOSITORY, name, ModelRepository(EMBEDDED_REPOSITORY).get().models[name])
    contract = CONTRACTS[name]
    images = np.random.default_rng(1).random((2, *contract.inputs[0].dims[1:]), np.float32)
    expected = OnnxModel(contract, path)(images)[contract.outputs[0].name]
    with torch.inference_mode():
        found = load(path)(torch.from_numpy(images)[:, None])
    found = found.sigmoid() if name == SEGMENTER else found
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_batch_norms_that_the_export_folded_come_back_as_what_they_did(tmp_path):
    """Convolutions with the batch norm folded in give the same output as before the export."""
    network = lived(UNetGenerator())
    export(network, CONTRACTS[ENHANCER], tmp_path / "model.onnx")
    back = UNetGenerator().eval()
    load_exported(back, tmp_path / "model.onnx", EXAMPLE)
    hand = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (network(hand) - back(hand)).abs().max() < 1e-5
        assert (network(hand) - UNetGenerator().eval()(hand)).abs().max() > 1e-3


def test_batch_norms_that_were_not_folded_keep_their_statistics(tmp_path):
    """FC-DenseNet's batch norms stand before their convolutions: all of its weights are what they were."""
    network = lived(FCDenseNet())
    export(network, CONTRACTS[SEGMENTER], tmp_path / "model.onnx")
    back = FCDenseNet()
    load_exported(back, tmp_path / "model.onnx", EXAMPLE)
    for name, values in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(back.state_dict()[name], values, atol=0, rtol=0, msg=name)
    assert back.training  # reading weights leaves the mode as it was


@pytest.mark.parametrize("network", [UNet(), TransferNetwork("resnet18", 3)], ids=["U-Net", "ResNet"])
def test_a_file_of_another_network_is_refused(network, tmp_path):
    """What does not fit is named, and the network stays as it was."""
    export(FCDenseNet(), CONTRACTS[SEGMENTER], tmp_path / "model.onnx")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="is no export of this network"):
        load_exported(network, tmp_path / "model.onnx", EXAMPLE)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


BACKBONE = "mobilenetv3_small_050"
SOME = Examples.of(
    np.random.default_rng(2).integers(0, 256, (24, 64, 64), dtype=np.uint8),
    np.zeros(24, np.float32), np.zeros(24, np.int64),
)  # fmt: skip


@pytest.fixture(scope="module")
def ages():
    """A network that has lived: no two of its weights are alike."""
    torch.manual_seed(5)
    made = lived(TransferNetwork(BACKBONE, AgeTarget().outputs))
    for values in made.parameters():
        if values.ndim == 1:
            torch.nn.init.uniform_(values, 0.1, 0.9)
    torch.nn.init.normal_(made.head.weight)
    return made


@pytest.fixture(scope="module")
def published(ages, tmp_path_factory):
    """The file of its version."""
    path, kind = tmp_path_factory.mktemp("published") / "model.onnx", kind_of(AgeTarget())
    features = 3 * ages.head.in_features
    scores = Typicality(
        torch.zeros(features), torch.ones(features, 2), torch.zeros(2), torch.ones(features, 4),
        torch.ones(features, 4), 1.0,
    )  # fmt: skip
    export(ServedReader(ages, scores, scale=kind.scale, offset=kind.offset), CONTRACTS[kind.model], path)
    return path


def test_a_published_reader_comes_back_with_its_head(ages, published):
    """A run that starts from it starts with its very readings."""
    back = network(BACKBONE, published, AgeTarget(), seed=1, images=SOME).eval()
    hands = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(back(hands)[0], ages(hands)[0], atol=1e-4, rtol=1e-4)


def test_a_head_of_another_question_is_not_taken_over(published):
    """Three classes are no three sexes, though as many."""
    classes = CategoryTarget(("young", "old", "older"))
    back = network(BACKBONE, published, classes, seed=1, images=SOME)
    fresh = network(BACKBONE, None, classes, seed=1, images=SOME)
    assert torch.equal(back.head.weight, fresh.head.weight)
    assert not torch.equal(back.backbone.conv_stem.weight, fresh.backbone.conv_stem.weight)


def in_training(network, images):
    """What it puts out where batch norms go by the batch and not by what they kept."""
    with torch.inference_mode():
        return network.train()(images)[0]


def test_all_of_a_published_reader_can_go_on_learning(ages, published):
    """It begins near its own readings in training too; where a checkpoint has the statistics they are not taken."""
    images = torch.from_numpy(np.stack([SOME.augmented(i, (i,)) for i in range(len(SOME))])[:, None])
    with torch.inference_mode():
        expected = ages(images)[0]
    back = network(BACKBONE, published, AgeTarget(), seed=1, images=SOME)
    torch.testing.assert_close(in_training(back, images), expected, atol=1e-2, rtol=1e-2)
    lost = network(BACKBONE, published, AgeTarget(), seed=1, images=None)
    assert (in_training(lost, images) - expected).abs().max() > 0.1


def test_statistics_are_those_of_all_batches_and_change_no_output():
    """Mean and variance are of both batches together; a batch norm that has its own keeps them, to the byte."""
    made = torch.nn.Sequential(*(torch.nn.BatchNorm2d(3) for _ in range(2)))
    for values in (made[0].weight.data, made[0].bias.data, made[1].running_mean):
        values.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    kept = {name: value.clone() for name, value in made[1].state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(n, 3, 4, 4, generator=generator) * scale + scale for n, scale in ((2, 1), (6, 5))]
    together = torch.cat(batches)
    with torch.inference_mode():
        before = made.eval()(together)
    restore_statistics(made, batches)
    with torch.inference_mode():
        torch.testing.assert_close(made(together), before, atol=1e-4, rtol=1e-4)
    values = together.transpose(0, 1).flatten(1)
    torch.testing.assert_close(made[0].running_mean, values.mean(dim=1))
    torch.testing.assert_close(made[0].running_var, values.var(dim=1, correction=0))
    assert all(torch.equal(made[1].state_dict()[name], value) for name, value in kept.items())


def test_another_networks_file_is_refused(published):
    """It is named."""
    with pytest.raises(BadConfigurationError, match=r"resnet18 from .*is no export of this network"):
        network("resnet18", published, AgeTarget(), seed=1, images=SOME)
