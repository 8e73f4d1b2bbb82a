"""The networks are those of the method, and what is frozen stays frozen byte for byte."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

import timm  # noqa: E402
from pydantic import TypeAdapter, ValidationError  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from services.core.domain.contracts import CLASSIFIER, CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER  # noqa: E402
from training.active_learning.plan import Plan  # noqa: E402
from training.active_learning.scoring import Scorer  # noqa: E402
from training.models.backbones import CHAINS, FLOWS, StageMap, create, load_imagenet  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.regressor import AGE_MEAN_MONTHS, AGE_SCALE_MONTHS, TransferNetwork  # noqa: E402
from training.models.segmenter import FCDenseNet, segmentation_loss  # noqa: E402
from training.models.served import ServedReader, ServedSegmenter, Typicality, by_thirds  # noqa: E402
from training.publish.export import export, parity  # noqa: E402
from training.run.schedule import cosine_rate  # noqa: E402
from training.transfer.learner import Fitting  # noqa: E402
from training.transfer.stages import Stage  # noqa: E402
from training.transfer.target import AgeTarget  # noqa: E402

BACKBONE = "tf_efficientnet_lite0"


FAMILIES = [
    "legacy_xception", "xception41", "resnet18", "resnet50", "resnext50_32x4d", "regnetx_002", "regnety_002",
    "densenet121", "inception_v3", "efficientnet_b0", "tf_efficientnet_lite0", "tf_efficientnetv2_b0",
    "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv3_large_100", "mobilenetv4_conv_small", "convnext_atto",
    "convnextv2_atto", "vgg11_bn",
]  # fmt: skip

SWIN = "swin_tiny_patch4_window7_224"


def typicality(features: int) -> Typicality:
    """Small random scores of pooled features."""
    draw = torch.Generator().manual_seed(5)
    return Typicality(
        mean=torch.randn(features, generator=draw),
        directions=torch.randn(features, 2, generator=draw),
        offsets=torch.zeros(2),
        whitening=torch.randn(features, 8, generator=draw),
        components=torch.linalg.qr(torch.randn(features, 8, generator=draw)).Q,
        residual_scale=1.0,
    )


@pytest.fixture(scope="module")
def regressor():
    """A regressor with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return TransferNetwork(BACKBONE, 3).eval()


def reading_ages(network):
    """The graph that is exported for ages."""
    return ServedReader(network, typicality(3 * 1280), scale=AGE_SCALE_MONTHS, offset=AGE_MEAN_MONTHS).eval()


def test_segmenter_has_192_maps_in_the_middle():
    """METHOD: 24 + 12 x 12 + 24 channels in the middle, at an eighth of the size."""
    middle, skips = FCDenseNet().eval().bottleneck(torch.zeros(1, 1, 64, 64))
    assert tuple(middle.shape) == (1, 192, 8, 8)
    assert len(skips) == 3


def test_segmentation_loss_prefers_the_true_mask():
    """Equation 4 in its soft form is lowest at the true mask, where it nears -1."""
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    right, wrong = segmentation_loss((mask * 2 - 1) * 20, mask), segmentation_loss((1 - mask * 2) * 20, mask)
    assert right == pytest.approx(-1, abs=1e-3)
    assert wrong > right + 1


def test_segmentation_loss_has_a_gradient():
    """With the thresholded Dice of the paper's print there would be none from it."""
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    segmentation_loss(logits, torch.ones(1, 1, 8, 8)).backward()
    assert logits.grad is not None
    assert bool((logits.grad < 0).all())


def test_generator_keeps_the_background_empty():
    """Outside the mask the enhanced hand stays exactly zero."""
    hand = torch.zeros(1, 1, 32, 32)
    hand[..., 8:24, 8:24] = 0.5
    with torch.inference_mode():
        enhanced = UNetGenerator().eval()(hand)
    assert float(enhanced[hand == 0].abs().max()) == 0
    assert 0 <= float(enhanced.min()) <= float(enhanced.max()) <= 1


def test_activation_explains_the_age_exactly(regressor):
    """Equation of paper 2.5: mean of the map plus the bias is the output, to 1e-5 of max(1, |output|)."""
    served = reading_ages(regressor)
    with torch.inference_mode():
        age, activation, bias, _ = served(torch.rand(3, 1, 224, 224))
    explained = activation.mean(dim=(2, 3)) + bias
    assert bool(((explained - age).abs() <= 1e-5 * age.abs().clamp_min(1)).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_flows_in_turn_are_the_backbone(name):
    """In every family that is said to work: none is empty, each has weights of its own, and together they have all."""
    net = TransferNetwork(name, 1).eval()
    flows = net.flows()
    image = torch.rand(1, 1, 128, 128)
    with torch.inference_mode():
        maps = image * 2 - 1
        for flow in FLOWS:
            assert list(flows[flow].parameters())
            maps = flows[flow](maps)
        assert torch.equal(maps, net.features(image))
    cut = sorted(id(parameter) for flow in flows.values() for parameter in flow.parameters())
    assert cut == sorted(id(parameter) for parameter in net.backbone.parameters())


def test_families_that_are_said_to_work_are_tried():
    """The message that refuses a backbone names no other."""
    assert all(any(family in name.replace("_", "") for name in FAMILIES) for family in CHAINS)


def test_stage_map_says_where_the_backbone_is_cut():
    """At the first block of that name; the network stays what it was."""
    net = TransferNetwork("resnet18", 1, stage_map=StageMap("layer2", "layer4.1")).eval()
    flows = net.flows()
    assert [len(flows[flow]) for flow in ("entry", "middle")] == [6, 5]
    assert next(flows["middle"].parameters()) is net.backbone.layer2[0].conv1.weight
    assert next(flows["exit"].parameters()) is net.backbone.layer4[1].conv1.weight


@pytest.mark.parametrize(
    ("name", "stage_map", "message"),
    [
        ("ghostnet_100", None, "do not follow in one line, as do those of the families .*convnext"),
        ("hrnet_w18_small", None, "do not follow in one line"),
        ("inception_next_atto", None, "cannot do without its pooling"),
        ("maxvit_nano_rw_256", None, r"takes no images of 224 px: height \(28\) must be divisible"),
        ("resnet18", StageMap("layer9", "layer4"), "'layer9' is none of the blocks conv1, .*layer4.1"),
        ("resnet18", StageMap("layer4", "layer3"), "'layer4' and 'layer3' leave a flow without blocks"),
        ("resnet18", StageMap("conv1", "layer3"), "leave a flow without blocks"),
        (SWIN, None, "stage_map may name the first block"),
        (SWIN, StageMap("layers.2", "layers.3"), r"no maps \(B, K, h, w\) but \(1, 7, 7, 768"),
    ],
)
def test_backbone_that_cannot_be_cut_is_refused(name, stage_map, message):
    """With what is wrong with it, and what would work."""
    with pytest.raises(ValueError, match=message):
        TransferNetwork(name, 1, stage_map=stage_map).flows()


def test_mirrored_hand_reads_the_same(regressor):
    """Image and mirror are averaged, so a left and a right hand get one age and mirrored maps."""
    served = reading_ages(regressor)
    hand = torch.rand(1, 1, 224, 224)
    with torch.inference_mode():
        age, activation, _, _ = served(hand)
        mirrored_age, mirrored_activation, _, _ = served(hand.flip(3))
    assert torch.allclose(age, mirrored_age, atol=1e-3)
    assert torch.allclose(activation, mirrored_activation.flip(3), atol=1e-2)


@pytest.mark.parametrize("height", [3, 7, 10])
def test_features_by_thirds_know_where_they_lie(height):
    """A map turned upside down has its thirds exchanged; one turned left to right has the same."""
    maps = torch.rand(2, 4, height, 5)
    upper, middle, lower = by_thirds(maps).unflatten(1, (3, 4)).unbind(1)
    from_below = by_thirds(maps.flip(2)).unflatten(1, (3, 4))
    assert torch.allclose(from_below, torch.stack([lower, middle, upper], dim=1), atol=1e-6)
    assert torch.allclose(by_thirds(maps.flip(3)), by_thirds(maps), atol=1e-6)
    third = round(height / 3)
    whole = (third * (upper + lower) + (height - 2 * third) * middle) / height
    assert torch.allclose(whole, maps.mean(dim=(2, 3)), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [SEGMENTER, ENHANCER, REGRESSOR, CLASSIFIER])
def test_export_computes_what_torch_does(name, regressor, tmp_path):
    """ONNX Runtime and torch agree at batch 1 to 8 on every output."""
    network = {
        SEGMENTER: lambda: ServedSegmenter(FCDenseNet()),
        ENHANCER: UNetGenerator,
        REGRESSOR: lambda: reading_ages(regressor),
        CLASSIFIER: lambda: ServedReader(TransferNetwork(BACKBONE, 2), typicality(3 * 1280), scale=1.0, offset=0.0),
    }[name]().eval()
    contract = CONTRACTS[name]
    batches = (1, 2) if name == SEGMENTER else (1, 3, 8)
    export(network, contract, tmp_path / "model.onnx")
    images = np.random.default_rng(1).random((8, *contract.inputs[0].dims), np.float32)
    assert max(parity(network, contract, tmp_path / "model.onnx", images, batches).values()) <= 0.05


def test_segmentation_loss_is_equation_4():
    """Cross entropy, mean over pixels, less the soft Dice, one of the two maps being all doubt."""
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    dice = (2 * 8 * 0.5 + 1) / (16 * 0.5 + 8 + 1)
    assert segmentation_loss(torch.zeros(1, 1, 4, 4), mask) == pytest.approx(np.log(2) - dice, abs=1e-6)


@pytest.mark.parametrize("classifier", [True, False])
def test_weights_of_timm_are_loaded_with_or_without_their_classifier(tmp_path, classifier):
    """The first convolution's colours become grey; weights of another network are refused."""
    whole = timm.create_model(BACKBONE, pretrained=False)
    state = {k: v.contiguous() for k, v in whole.state_dict().items() if classifier or not k.startswith("classifier.")}
    save_file(state, tmp_path / "weights.safetensors")
    backbone = create(BACKBONE)
    load_imagenet(backbone, tmp_path / "weights.safetensors")
    loaded = backbone.state_dict()
    assert set(loaded) == {name for name in state if not name.startswith("classifier.")}
    torch.testing.assert_close(loaded["conv_stem.weight"], state["conv_stem.weight"].sum(dim=1, keepdim=True))
    save_file({k: v for k, v in state.items() if k != "bn1.weight"}, tmp_path / "less.safetensors")
    with pytest.raises(RuntimeError, match=r"bn1\.weight"):
        load_imagenet(backbone, tmp_path / "less.safetensors")


def test_rate_rises_to_its_top_and_falls_to_its_end():
    """In proportion while it warms up, on a cosine afterwards: half of the way down in the middle of the rest."""
    rates = [cosine_rate(done, top=2.0, warm_up=0.2, final_fraction=0.1) for done in (0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([1.0, 2.0, 1.1, 0.2])
    assert 0 < cosine_rate(0.0, top=2.0, warm_up=0.2) < 0.1


def test_draws_of_dropout_differ_and_follow_from_their_seed():
    """Only dropout draws: the batch norms stay as they were, and without a share all draws are one."""
    torch.manual_seed(1)
    image = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    member = FCDenseNet(0.3).eval()
    before = {name: value.clone() for name, value in member.state_dict().items()}
    measures = ("mutual_information",)
    one, other, again = (Scorer([member], measures).scores(image, seed=seed) for seed in (1, 2, 1))
    assert one == again != other
    assert one["mutual_information"] > 1e-6
    assert all(torch.equal(value, before[name]) for name, value in member.state_dict().items())
    assert not member.training
    sure = Scorer([FCDenseNet().eval()], measures).scores(image, seed=1)
    assert sure["mutual_information"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (Fitting, {"batch_size": 4, "validate_every": 4, "seed": 1},
         [{"batch_size": 0}, {"validate_every": 0}, {"weight_decay": -1}]),
        (Stage, {"trainable": (), "images": 8, "learning_rate": 0.1},
         [{"images": 0}, {"learning_rate": -1}, {"copies": -1}, {"patience": 0}, {"flow_decay": 0}, {"warm_up": 2}]),
        (Plan, {"strategy": "random", "members": 1, "start": 1, "per_round": 1, "maximum_labels": 2, "seed": 1,
                "phases": ({"size_px": 32, "steps": 1, "batch_size": 1, "learning_rate": 0.1},), "validate_every": 1},
         [{"members": 0}, {"validate_every": 0}, {"dropout": 2}, {"size_px": 100}, {"phases": ()},
          {"phases": ({"size_px": 32, "steps": 1, "batch_size": 1, "learning_rate": -1},)}]),
        (AgeTarget, {}, [{"unknown_share": 5}, {"band_months": 0}]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(kind, right, wrong):
    """In any configuration that holds them, before anything is begun."""
    adapter = TypeAdapter(kind)
    adapter.validate_python(right)
    for changes in wrong:
        with pytest.raises(ValidationError, match=next(iter(changes))):
            adapter.validate_python(right | changes)
