"""The model repository: what is published is read back, and what is damaged is refused with the file and the reason."""

import dataclasses
import json
import math
from hashlib import sha256
from pathlib import Path

import pytest

from services.core.adapters import model_repository
from services.core.adapters.model_repository import ModelRepository, preprocessing_sha256
from services.core.adapters.publishing import publish_release, set_current
from services.core.adapters.release_manifest import release_from_json, release_to_json
from services.core.adapters.store import Store
from services.core.adapters.triton_config import config_pbtxt
from services.core.domain.contracts import CONTRACTS, REGRESSOR, SEGMENTER
from services.core.errors import ModelUnavailableError, ReleaseError, UnknownReleaseError
from tests.models import RELEASE_ID, Variations, tiny_release, write_repository


@pytest.fixture
def root(tmp_path) -> Path:
    """A repository with one release."""
    return write_repository(tmp_path)


def rewrite(path: Path, **changes) -> None:
    """Change statements of a JSON file; None takes one out."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_the_current_release_is_read_back_as_published(root):
    """What was written is what is read, by no id and by its own."""
    repository = ModelRepository(root)
    release = repository.get()
    assert release == repository.get(RELEASE_ID)
    assert dataclasses.replace(release, files={}) == tiny_release()
    assert set(release.files) == set(release.paths)
    assert repository.ids() == [RELEASE_ID]


def test_a_manifest_survives_the_round_trip_with_its_open_ends():
    """The open ends of the outer bands are null in JSON and infinite in the release."""
    text = release_to_json(tiny_release())
    again = release_from_json(text, source="here")
    assert again == tiny_release()
    assert again.interval_cells[0].high_months == math.inf
    assert "Infinity" not in text


def test_a_manifest_of_classes_survives_the_round_trip():
    """It has classes and neither intervals nor a baseline."""
    release = tiny_release(variations=Variations(classes=True))
    text = release_to_json(release)
    assert release_from_json(text, source="here") == release
    assert not {"interval_cells", "baseline_mae_months"} & set(json.loads(text))
    assert "classes" not in json.loads(release_to_json(tiny_release()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": ["one"]}, "classes.names"),
        ({"names": ["one", "one"]}, "a class is there twice"),
        ({"temperature": 0}, "classes.temperature"),
        ({"set_probability": 2}, "classes.set_probability"),
    ],
)
def test_damaged_classes_are_refused(changes, reason):
    """Each fault is told."""
    content = json.loads(release_to_json(tiny_release(variations=Variations(classes=True))))
    content["classes"] |= changes
    with pytest.raises(ReleaseError, match=reason):
        release_from_json(json.dumps(content), source="here")


def test_a_second_release_moves_the_pointer_only_where_told(root):
    """A release is served once it is named, also by those who opened the repository before it came."""
    repository = ModelRepository(root)
    publish_release(Store(str(root)), tiny_release("tiny-2"), current=False)
    assert (repository.get().id, repository.get("tiny-2").id) == (RELEASE_ID, "tiny-2")
    publish_release(Store(str(root)), tiny_release("tiny-3"), current=True)
    assert repository.get().id == repository.current == ModelRepository(root).get().id == "tiny-3"
    set_current(Store(str(root)), "tiny-2")
    assert repository.get().id == "tiny-2"


def test_a_pointer_that_comes_to_name_nothing_is_told(root):
    """The release that was current before is not passed off as the one that is."""
    repository = ModelRepository(root)
    Store(str(root)).replace("releases/current", b"gone\n")
    with pytest.raises(ReleaseError, match="'gone', which is no release here"):
        repository.get()
    assert repository.get(RELEASE_ID).id == RELEASE_ID


def test_the_routing_says_what_is_wanted(root):
    """Without one every release is; what it names and is not here (yet) cannot be; the file itself is no release."""
    repository = ModelRepository(root)
    publish_release(Store(str(root)), tiny_release("tiny-2"), current=False)
    assert repository.wanted() == (RELEASE_ID, "tiny-2")
    routing = {"current": "tiny-2", "previous": RELEASE_ID, "canary": "tiny-3", "canary_permille": 5, "shadow": ""}
    state = {"routing": routing, "candidates": ["tiny-4"], "events": {"tiny-2": []}}
    (root / "releases" / "routing.json").write_text(json.dumps(state))
    assert repository.wanted() == ("tiny-2", RELEASE_ID)
    assert repository.ids() == [RELEASE_ID, "tiny-2"]
    with pytest.raises(UnknownReleaseError):
        repository.get("routing")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "routing: field required"),
        ('{"routing": {"current": ""}}', "needs a current release"),
        ('{"routing": {"current": "a", "canary": "b"}}', "a canary has a share"),
        ("no json", "invalid json"),
    ],
)
def test_a_damaged_routing_is_refused_with_its_reason(root, text, reason):
    """What nobody can make out routes nothing."""
    (root / "releases" / "routing.json").write_text(text)
    with pytest.raises(ReleaseError, match=reason) as refused:
        ModelRepository(root).wanted()
    assert refused.value.field == "releases/routing.json"


@pytest.mark.parametrize("name", ["tiny-9", "../tiny-1", "releases/tiny-1", " ", "x" * 1000, "tiny-1\0"])
def test_an_unknown_release_is_said_to_be_unknown(root, name):
    """A name that is no release here is unknown, also where it tries to be a path."""
    with pytest.raises(UnknownReleaseError, match="is served here"):
        ModelRepository(root).get(name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preprocessing_sha256": "0" * 64}, "other preprocessing"),
        ({"id": "other"}, "says that it is release 'other'"),
        ({"gates": None}, "gates: field required"),
        ({"interval_level": 1.5}, "interval_level"),
        ({"interval_cells": []}, "do not cover every age"),
        ({"models": {SEGMENTER: 1}}, "no version of"),
        ({"models": dict.fromkeys(CONTRACTS, 4), "files": None}, "has no version 4"),
        ({"baseline_mae_months": float("nan")}, "baseline_mae_months"),
        ({"surprise": 1}, "surprise"),
        ({"models": {"../x": 1}}, "models"),
        ({"files": {"boneage_regressor/1/card.json": "0" * 64}}, "files: they are not those of the versions"),
    ],
)
def test_a_damaged_manifest_is_refused_with_place_and_reason(root, changes, reason):
    """Each fault of the current release is told when the store is opened."""
    rewrite(root / "releases" / f"{RELEASE_ID}.json", **changes)
    with pytest.raises(ReleaseError, match=reason) as refused:
        ModelRepository(root)
    assert refused.value.field == f"releases/{RELEASE_ID}.json"


def test_a_damaged_release_beside_the_current_one_does_no_harm(root):
    """An old release that this program cannot serve is refused when it is asked for, not before."""
    publish_release(Store(str(root)), tiny_release("old"), current=False)
    rewrite(root / "releases" / "old.json", preprocessing_sha256="0" * 64)
    store = ModelRepository(root)
    assert store.get().id == RELEASE_ID
    with pytest.raises(ReleaseError, match="other preprocessing"):
        store.get("old")


def test_missing_pieces_are_named(root, tmp_path):
    """No pointer, a pointer to nothing, no model file and no repository are each told apart."""
    pointer = root / "releases" / "current"
    pointer.write_text("gone\n")
    with pytest.raises(ReleaseError, match="'gone', which is no release here"):
        ModelRepository(root)
    pointer.unlink()
    with pytest.raises(ReleaseError, match="releases/current: cannot be read"):
        ModelRepository(root)
    with pytest.raises(ReleaseError, match="cannot be read"):
        ModelRepository(tmp_path / "nowhere")


def test_a_card_says_what_was_written_and_which_file_it_belongs_to(root):
    """The card keeps what training said and adds the identity of the version."""
    card = ModelRepository(root).card(REGRESSOR, 1)
    assert card["trained_on"] == "nothing: made by hand"
    assert (card["model"], card["version"], len(card["model_sha256"])) == (REGRESSOR, 1, 64)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"model_sha256": None}, "field required"), ({"model_sha256": "x"}, "string"), ({"version": 2}, "version 2")],
)
def test_a_damaged_card_is_refused(root, changes, reason):
    """A card without its statements, or of another version, is no card."""
    rewrite(root / SEGMENTER / "1" / "card.json", **changes)
    with pytest.raises(ReleaseError, match=reason) as refused:
        model_repository.read_card(root, SEGMENTER, 1)
    assert refused.value.field == f"{SEGMENTER}/1/card.json"


def test_weights_are_compared_with_their_card(root):
    """One flipped bit in the weights is seen, and so is a version that is not there."""
    path = model_repository.model_file(root, SEGMENTER, 1)
    assert model_repository.verified_model_bytes(root, SEGMENTER, 1) == path.read_bytes()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ReleaseError, match="damaged") as refused:
        model_repository.verified_model_bytes(root, SEGMENTER, 1)
    assert refused.value.field == f"{SEGMENTER}/1/model.onnx"
    with pytest.raises(ModelUnavailableError, match="no version 2"):
        model_repository.verified_model_bytes(root, SEGMENTER, 2)


def test_weights_that_were_exchanged_together_with_their_card_are_seen(root):
    """What releases pin is the digest of the card too: both altered in step do not pass, on opening or on loading."""
    path = model_repository.model_file(root, SEGMENTER, 1)
    opened = ModelRepository(root)
    path.write_bytes(b"other weights")
    rewrite(path.with_name("card.json"), model_sha256=sha256(b"other weights").hexdigest())
    with pytest.raises(ReleaseError, match="the card is not the one that a release pins") as refused:
        model_repository.verified_model_bytes(root, SEGMENTER, 1)
    assert refused.value.field == f"{SEGMENTER}/1/card.json"
    with pytest.raises(ReleaseError, match=f"not the one that release {RELEASE_ID} pins"):
        ModelRepository(root)
    assert opened.get().id == RELEASE_ID


def test_the_digest_of_the_preprocessing_is_that_of_its_source():
    """It is stable within a program and has the form of a SHA-256."""
    assert preprocessing_sha256() == preprocessing_sha256()
    assert set(preprocessing_sha256()) <= set("0123456789abcdef")


def test_every_model_of_a_repository_has_its_configuration(root):
    """Triton finds a configuration beside the versions of each model."""
    for name in tiny_release().models:
        assert (root / name / "config.pbtxt").read_text() == config_pbtxt(CONTRACTS[name])


def test_a_release_is_frozen():
    """Nobody changes a release that others answer with."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_release().id = "other"  # type: ignore[misc]  # what is tested
