"""Policies say what arrows.yaml says, no less and no more."""

from itertools import product

import pytest
import yaml

from tests.charts.conftest import CHARTS, ROOT, parsed

SERVING = ROOT / "charts/boneage"
ARROWS = yaml.safe_load((SERVING / "arrows.yaml").read_text())
SERVING_ENDS = {
    "assessment",
    "segmentation",
    "enhancement",
    "regression",
    "cam",
    "release",
    "triton",
    "preflight",
    "test",
}
TRAINING_ENDS = {"job", "job-nodes", "label-studio"}
OUTSIDE = {"client", "operator", "prometheus", "dns", "store", "kubernetes-api", "annotator"}
EVERYTHING = "inference.runtime=triton,store.url=s3://a/b,store.s3.existingSecret=r,store.s3.writerSecret=w,hostKey.existingSecret=h"


def spelt_out():
    """(from, to, port) of every arrow, groups by their members; no port stands for any."""
    groups = ARROWS["groups"]
    for arrow in ARROWS["arrows"]:
        for pair in product(*(groups.get(arrow[end], [arrow[end]]) for end in ("from", "to"))):
            yield (*pair, arrow.get("port"))


def test_ends_are_known_and_every_arrow_says_why():
    """Serving and training have no arrow between them but through the store."""
    pairs = {(start, end) for start, end, _ in spelt_out()}
    assert {end for pair in pairs for end in pair} <= SERVING_ENDS | TRAINING_ENDS | OUTSIDE
    assert all(arrow["why"] for arrow in ARROWS["arrows"])
    assert not {(a, b) for a, b in pairs if {a, b} & SERVING_ENDS and {a, b} & TRAINING_ENDS}
    triples = list(spelt_out())
    assert len(set(triples)) == len(triples), "one is drawn twice"


def test_both_charts_read_the_same_file():
    """The training chart carries a copy."""
    for chart in CHARTS:
        assert (chart / "arrows.yaml").read_text() == (SERVING / "arrows.yaml").read_text()


@pytest.fixture(scope="module")
def policies(helm):
    """The policies with everything switched on, by component."""
    done = helm("template", "boneage", SERVING, "--set", EVERYTHING, "--show-only", "templates/policies.yaml")
    found = [item for item in parsed(done.stdout) if item["kind"] == "NetworkPolicy"]
    return {item["metadata"]["name"].removeprefix("boneage-"): item["spec"] for item in found}


@pytest.fixture(scope="module")
def outside(helm):
    """Peers and ports of the ends outside, from the values."""
    return yaml.safe_load((SERVING / "values.yaml").read_text())["networkPolicy"]["peers"]


def test_every_pair_of_components_is_as_drawn(policies):
    """A call passes where its caller's policy lets it out and its callee's lets it in."""
    drawn = {arrow for arrow in spelt_out() if {arrow[0], arrow[1]} <= SERVING_ENDS}
    let_out = {(name, end, port) for name in policies for end, port in ends(policies[name], "egress", "to")}
    let_in = {(end, name, port) for name in policies for end, port in ends(policies[name], "ingress", "from")}
    assert let_out == drawn
    assert let_in == drawn


def ends(spec, direction, side):
    """Components and ports of the rules that name components."""
    for rule in spec.get(direction, []):
        for peer in rule.get(side) or []:
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if "app.kubernetes.io/component" in labels:
                for port in rule["ports"]:
                    yield labels["app.kubernetes.io/component"], port["port"]


def test_what_is_outside_is_as_drawn(policies, outside):
    """By the peers and ports that the values give, and only for those who have an arrow there."""
    for direction, side, here, there in (("egress", "to", 0, 1), ("ingress", "from", 1, 0)):
        for name in policies.keys() - {"deny"}:
            found = [
                (rule[side], sorted({port["port"] for port in rule["ports"]}))
                for rule in policies[name].get(direction, [])
                if not list(ends({direction: [rule]}, direction, side))
            ]
            drawn = [
                (outside[arrow[there]]["peers"], sorted(outside[arrow[there]].get("ports", [arrow[2]])))
                for arrow in spelt_out()
                if arrow[here] == name and arrow[there] in OUTSIDE
            ]
            assert sorted(found, key=str) == sorted(drawn, key=str), name


def test_everything_else_is_refused(policies):
    """Each component has a policy for both directions, and so has whatever else belongs to the installation."""
    assert policies.keys() == SERVING_ENDS | {"deny"}
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in policies.values())
    assert policies["deny"].keys() == {"podSelector", "policyTypes"}
    assert "app.kubernetes.io/component" not in policies["deny"]["podSelector"]["matchLabels"]
