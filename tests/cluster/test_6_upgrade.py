"""From chart 0.1.0, as it was first packaged, to this one and back: the data stay, and a renamed value says so."""

import json
from pathlib import Path
from typing import Final

from tests.cluster.authority import COMPONENTS, NAME, SERVING
from tests.cluster.conftest import phase
from tests.cluster.system import System

FIRST: Final = Path(__file__).parents[1] / "charts" / "boneage-0.1.0.tgz"


def test_upgrade_and_rollback_keep_the_data(system: System) -> None:
    """The store, its decisions and the host key are the same before, between and after."""
    system.helm("uninstall", NAME, "--wait", "--ignore-not-found")
    first = ("volumes", "first-chart")
    with phase("chart 0.1.0"):
        system.install(*first, chart=FIRST)
        system.ready()
    kept = system.kept()
    with phase("upgrade to this chart"):
        told = system.try_install(*first)
        assert told.code != 0
        assert "renamed" in told.said, told.said
        system.install("volumes", options=("--set=defaults.nodeLossSeconds=20",))
        system.ready()
    assert system.kept() == kept
    assert tolerated_s(system) == {20}
    with phase("helm rollback"):
        system.helm("rollback", NAME, "--wait", "--timeout=5m", timeout_s=330)
        system.ready()
    assert system.kept() == kept
    assert tolerated_s(system) == {30}
    revisions = json.loads(system.helm("history", NAME, "-o", "json").output)
    assert [revision["chart"] for revision in revisions][-1] == "boneage-0.1.0"
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in system.cluster.pods(SERVING)} == set(
        COMPONENTS
    ) - {"triton"}
    system.uninstall()


def tolerated_s(system: System) -> set[int]:
    """Seconds that the pods which are there stay bound to a lost node."""
    pods = [pod for pod in system.cluster.pods(SERVING) if pod["status"]["phase"] == "Running"]
    return {t["tolerationSeconds"] for pod in pods for t in pod["spec"]["tolerations"] if "tolerationSeconds" in t}
