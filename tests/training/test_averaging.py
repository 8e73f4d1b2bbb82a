"""Weights of networks that descend from one another, averaged."""

import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.models.regressor import TransferNetwork  # noqa: E402
from training.publish.averaging import mean_weights  # noqa: E402


def network(seed):
    """A network that seed drew."""
    torch.manual_seed(seed)
    return TransferNetwork("tf_efficientnet_lite0", 3)


def test_mean_of_two_networks_lies_half_way():
    """Every weight is the mean of both, counters stay whole numbers, and the network takes them."""
    one, other = network(1).state_dict(), network(2).state_dict()
    mean = mean_weights([one, other])
    for name, value in mean.items():
        expected = (one[name] + other[name]) / 2 if value.is_floating_point() else one[name]
        torch.testing.assert_close(value, expected)
        assert value.dtype == one[name].dtype
    network(3).load_state_dict(mean)


def test_mean_of_one_network_is_itself():
    """A single run is published as it is."""
    one = network(1).state_dict()
    assert all(torch.equal(value, one[name]) for name, value in mean_weights([one]).items())


def test_different_networks_are_refused():
    """Weights that do not belong together have no mean."""
    one = network(1).state_dict()
    with pytest.raises(ValueError, match="different networks"):
        mean_weights([one, {name: value for name, value in one.items() if "head" not in name}])
