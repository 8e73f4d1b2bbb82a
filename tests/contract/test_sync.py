"""The copy that runtimes read: what the routing names, checked, whole at every moment, restored where it is altered."""

import dataclasses
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.core.adapters.inference_onnxruntime import load_session
from services.core.adapters.model_repository import ModelRepository, verified_model_bytes
from services.core.adapters.publishing import set_current
from services.core.adapters.release_manifest import release_to_json
from services.core.adapters.signing import Trust, sign
from services.core.adapters.store import Store
from services.core.adapters.triton_config import config_pbtxt
from services.core.domain.contracts import CONTRACTS, ENHANCER, SEGMENTER
from services.core.errors import ReleaseError, UnknownReleaseError
from services.release.sync import KEPT_S, Syncer
from tests.keys import make_keys
from tests.models import RELEASE_ID, publish_tiny, tiny_release
from tests.s3 import running_s3
from tests.serving import child_environment
from tests.waiting import until

WEIGHTS = f"{SEGMENTER}/1/model.onnx"
MANIFEST = f"releases/{RELEASE_ID}.json"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The publisher's pair."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another pair."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def store(tmp_path, keys):
    """A store with one signed release, which is current."""
    store = Store(str(tmp_path / "store"))
    publish_tiny(store, tiny_release(), private_key=keys.private)
    return store


@pytest.fixture
def root(tmp_path):
    """Where the copy is kept."""
    return tmp_path / "repository"


@pytest.fixture
def syncer(store, root, keys):
    """A sync that trusts the publisher's key."""
    return Syncer(store, root, Trust((keys.public,)))


def files(folder):
    """All files under a folder but the lock, by their place."""
    found = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".sync.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def route(store, *candidates, **routing):
    """Write the routing as the release service does, and then the pointer."""
    state = {"routing": routing, "candidates": candidates, "events": {}}
    store.replace("releases/routing.json", json.dumps(state).encode())
    set_current(store, routing["current"])


def alter(path, *, keep_time=False):
    """Another byte in the middle of a file, written in place; its time of change can be set back."""
    status = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_copy_is_what_the_store_holds(store, root, syncer):
    """Every file of the current release, for reading only, with the configuration that Triton needs."""
    syncer.round()
    copied, original = files(root), files(store.folder)
    assert {path for path in original if not path.endswith("claim")} == set(copied)
    assert all(content == original[path] for path, content in copied.items())
    assert {(root / path).stat().st_mode & 0o222 for path in copied} == {0}
    assert copied[f"{ENHANCER}/config.pbtxt"] == config_pbtxt(CONTRACTS[ENHANCER]).encode()
    assert ModelRepository(root).get().id == RELEASE_ID


def test_what_was_fetched_is_told(keys, syncer):
    """By whose signature, and how many files."""
    fetched = syncer.fetch(RELEASE_ID)
    assert (len(fetched.key_sha256), fetched.files) == (64, 6)
    assert fetched == syncer.fetch(RELEASE_ID)


def test_the_copy_is_kept_from_s3_too(tmp_path, root):
    """A store elsewhere is one like any other."""
    with running_s3() as s3:
        publish_tiny(store := Store(f"{s3.url}/{tmp_path.name}"), tiny_release())
        syncer = Syncer(store, root, Trust())
        syncer.round()
        assert ModelRepository(root).get().id == RELEASE_ID
        publish_tiny(store, tiny_release("tiny-2", version=2))
        syncer.round()
    assert ModelRepository(root).get().id == "tiny-2"
    with pytest.raises(ReleaseError, match="does not answer"):
        syncer.round()


def test_all_that_the_routing_names_is_fetched_and_nothing_else(store, root, syncer, keys):
    """What answers, reads along, answered before, or is to come; the routing itself is there to read."""
    for number in range(2, 7):
        publish_tiny(store, tiny_release(f"tiny-{number}", version=number), private_key=keys.private)
    route(store, "tiny-5", current="tiny-2", previous=RELEASE_ID, canary="tiny-3", canary_permille=5, shadow="tiny-4")
    syncer.round()
    repository = ModelRepository(root)
    assert repository.ids() == [RELEASE_ID, "tiny-2", "tiny-3", "tiny-4", "tiny-5"]
    assert repository.current == "tiny-2"
    assert repository.wanted() == ("tiny-2", "tiny-3", "tiny-4", RELEASE_ID)
    assert not (root / ENHANCER / "6").exists()
    store.delete("releases/routing.json")
    syncer.round()
    assert not (root / "releases" / "routing.json").exists()


def test_who_reads_the_copy_follows_the_pointer(store, root, syncer, keys):
    """A service that runs finds a release that came later, and is with it from the next round on; and back."""
    syncer.round()
    repository = ModelRepository(root)
    publish_tiny(store, tiny_release("tiny-2", version=2), private_key=keys.private)
    assert repository.get().id == RELEASE_ID
    syncer.round()
    assert repository.get().id == "tiny-2"
    set_current(store, RELEASE_ID)
    syncer.round()
    assert repository.get().id == RELEASE_ID


def refused(syncer, root, reason, *, release_id=RELEASE_ID):
    """A release is refused for this reason, and nothing of it comes into place."""
    before = files(root)
    with pytest.raises(ReleaseError, match=reason):
        syncer.fetch(release_id)
    assert files(root) == before


def test_only_what_a_trusted_key_signed_is_let_in(store, root, keys, other):
    """Neither unsigned nor foreign releases are; while keys are exchanged, those of both are."""
    publish_tiny(store, tiny_release("foreign"), private_key=other.private)
    publish_tiny(store, tiny_release("unsigned"))
    old, new = Trust((keys.public,)), Trust((other.public,))
    refused(Syncer(store, root, old), root, "is not signed$", release_id="unsigned")
    refused(Syncer(store, root, old), root, "by a key that is not trusted here", release_id="foreign")
    refused(Syncer(store, root, new), root, "by a key that is not trusted here")
    both = Syncer(store, root, Trust((keys.public, other.public)))
    assert both.fetch(RELEASE_ID).key_sha256 != both.fetch("foreign").key_sha256
    assert Syncer(store, root, Trust()).fetch("unsigned").key_sha256 == ""


def test_a_manifest_that_was_altered_is_not_let_in(store, root, syncer):
    """Also where it still reads well."""
    manifest = json.loads(store.read(MANIFEST))
    manifest["baseline_mae_months"] = 1.0
    store.replace(MANIFEST, json.dumps(manifest).encode())
    refused(syncer, root, f"^{MANIFEST}: is not what was signed")


def test_a_signature_of_another_release_does_not_pass(store, root, syncer, keys):
    """Nor does another release under this one's name."""
    publish_tiny(store, tiny_release("tiny-2"), private_key=keys.private)
    store.replace(f"releases/{RELEASE_ID}.sig", store.read("releases/tiny-2.sig"))
    refused(syncer, root, "is not what was signed")
    store.replace(MANIFEST, store.read("releases/tiny-2.json"))
    refused(syncer, root, "says that it is release 'tiny-2'")


@pytest.mark.parametrize("path", [WEIGHTS, f"{SEGMENTER}/1/card.json"])
def test_a_file_that_was_altered_in_the_store_is_not_let_in(store, root, syncer, path):
    """The signature covers its digest; other versions of the same release do not come into place either."""
    alter(store.folder / path)
    refused(syncer, root, f"^{path}: is not the file that the release was published with")
    store.delete(path)
    refused(syncer, root, f"^{path}: not found")


def manifest_of(store, keys, **changes):
    """Sign and write a manifest past the checks of publishing."""
    release = dataclasses.replace(tiny_release(), **changes)
    manifest = release_to_json(release).encode()
    store.replace(MANIFEST, manifest)
    store.replace(f"releases/{RELEASE_ID}.sig", sign(manifest, name=MANIFEST, private_key=keys.private))


def test_what_was_signed_and_is_of_no_use_is_not_let_in(store, root, syncer, keys):
    """Preprocessing of another program, models that nobody knows, an id that is none."""
    manifest_of(store, keys, preprocessing_sha256="0" * 64)
    refused(syncer, root, "other preprocessing")
    manifest_of(store, keys, models={**tiny_release().models, "surprise": 1})
    refused(syncer, root, "no such model: surprise")
    with pytest.raises(UnknownReleaseError, match="is no id of a release"):
        syncer.fetch("../tiny-1")


def test_a_manifest_from_before_digests_is_compared_with_its_cards(store, root, syncer, keys):
    """It may be embedded; signed, it would say nothing of its files."""
    manifest_of(store, keys)
    refused(syncer, root, "states no digests")
    trusting = Syncer(store, root, Trust())
    alter(store.folder / WEIGHTS)
    refused(trusting, root, f"^{WEIGHTS}: is not the file")
    alter(store.folder / WEIGHTS)
    assert trusting.fetch(RELEASE_ID).files == 6


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize(
    "path",
    [WEIGHTS, f"{SEGMENTER}/1/card.json", MANIFEST, f"releases/{RELEASE_ID}.sig", f"{SEGMENTER}/config.pbtxt",
     "releases/current"],
)  # fmt: skip
def test_what_is_altered_in_the_copy_is_restored(root, syncer, path, keep_time):
    """Whatever it is, at the next round, and it is logged; also where size and time say that nothing happened."""
    syncer.round()
    before = files(root)
    alter(root / path, keep_time=keep_time)
    with capture_logs() as logs:
        syncer.round()
        syncer.round()
    assert files(root) == before
    altered = [entry["file"] for entry in logs if entry["event"] == "altered, and replaced"]
    assert altered == ([] if path == "releases/current" else [path])


@pytest.mark.parametrize("path", [WEIGHTS, SEGMENTER, "releases", MANIFEST])
def test_what_is_deleted_in_the_copy_comes_back(root, syncer, path):
    """A file or a whole folder."""
    syncer.round()
    before = files(root)
    (root / path).rename(root.parent / "elsewhere")
    syncer.round()
    assert files(root) == before


def test_what_was_altered_before_a_sync_started_is_restored(store, root, syncer, keys):
    """A new process trusts nothing that it finds."""
    syncer.round()
    before = files(root)
    alter(root / WEIGHTS)
    Syncer(store, root, Trust((keys.public,))).round()
    assert files(root) == before


def test_what_is_altered_after_the_check_is_never_loaded(root, syncer):
    """Between the check and the next round a runtime may read the copy: it compares the bytes that it loads."""
    syncer.round()
    load_session(root, SEGMENTER, 1, threads=1)
    right = verified_model_bytes(root, SEGMENTER, 1)
    alter(root / WEIGHTS, keep_time=True)
    with pytest.raises(ReleaseError, match=f"^{WEIGHTS}: the file is not the one that its card describes"):
        load_session(root, SEGMENTER, 1, threads=1)
    syncer.round()
    assert verified_model_bytes(root, SEGMENTER, 1) == right


def test_a_bad_release_is_logged_once_and_blocks_no_other(store, root, syncer, keys):
    """The others are fetched and the pointer moves; when it is mended it is fetched too."""
    publish_tiny(store, tiny_release("bad", version=2), private_key=keys.private)
    publish_tiny(store, tiny_release("good", version=3), private_key=keys.private)
    alter(store.folder / ENHANCER / "2" / "model.onnx")
    route(store, current="good", previous="absent", canary="bad", canary_permille=5, shadow=RELEASE_ID)
    with capture_logs() as logs:
        syncer.round()
        syncer.round()
    told = {entry["release"]: entry["reason"] for entry in logs if entry["event"] == "release not fetched"}
    assert told == {
        "bad": f"{ENHANCER}/2/model.onnx: is not the file that the release was published with",
        "absent": "releases/absent.json: not found",
    }
    assert sum(entry["log_level"] == "error" for entry in logs) == 2
    repository = ModelRepository(root)
    assert (repository.current, repository.ids()) == ("good", ["good", RELEASE_ID])
    assert repository.wanted() == ("good", RELEASE_ID)
    alter(store.folder / ENHANCER / "2" / "model.onnx")
    syncer.round()
    assert repository.ids() == ["bad", "good", RELEASE_ID]


def test_the_pointer_waits_for_its_release(store, root, syncer, keys):
    """One that cannot be had does not become current: what served before serves on."""
    syncer.round()
    publish_tiny(store, tiny_release("bad", version=2), private_key=keys.private)
    alter(store.folder / ENHANCER / "2" / "model.onnx")
    syncer.round()
    assert ModelRepository(root).current == RELEASE_ID


def test_what_nothing_names_goes_after_a_while(store, root, keys):
    """Not at once, not while anything names it or its versions, and never what is current here."""
    now = [1000.0]
    syncer = Syncer(store, root, Trust((keys.public,)), now_s=lambda: now[0])
    syncer.round()
    publish_tiny(store, tiny_release("tiny-2", version=2), private_key=keys.private)
    syncer.round()
    now[0] += KEPT_S - 1
    syncer.round()
    assert ModelRepository(root).ids() == [RELEASE_ID, "tiny-2"]
    set_current(store, RELEASE_ID)
    syncer.round()  # wanted again: its time begins anew
    set_current(store, "tiny-2")
    now[0] += KEPT_S - 1
    syncer.round()
    assert ModelRepository(root).ids() == [RELEASE_ID, "tiny-2"]
    now[0] += KEPT_S
    syncer.round()
    assert ModelRepository(root).ids() == ["tiny-2"]
    assert not [path for path in files(root) if "/1/" in path or RELEASE_ID in path]
    assert ModelRepository(root).get().id == "tiny-2"


def test_a_store_that_is_gone_or_empty_takes_nothing_away(store, root, keys, tmp_path):
    """What serves stays, however long."""
    now = [0.0]
    Syncer(store, root, Trust((keys.public,))).round()
    before = files(root)
    syncer = Syncer(Store(str(tmp_path / "empty")), root, Trust((keys.public,)), now_s=lambda: now[0])
    for _ in range(3):
        with pytest.raises(ReleaseError, match="the store names no release"):
            syncer.round()
        now[0] += 2 * KEPT_S
    assert files(root) == before


def test_two_syncs_of_one_copy_do_not_disturb_each_other(store, root, keys):
    """The release service may fetch while the sync beside a runtime does."""
    for number in range(2, 6):
        publish_tiny(store, tiny_release(f"tiny-{number}", version=number), private_key=keys.private)
    syncers = [Syncer(store, root, Trust((keys.public,))) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda syncer: [syncer.fetch(f"tiny-{number}") for number in range(2, 6)], syncers))
    syncers[0].round()
    assert ModelRepository(root).ids() == [f"tiny-{number}" for number in range(2, 6)]


FETCH = """
import itertools, sys
from pathlib import Path
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.release.sync import Syncer
print("ready", flush=True)
for number in itertools.count():
    Syncer(Store(sys.argv[1]), Path(sys.argv[2]) / str(number), Trust()).round()
"""


def test_a_sync_that_is_killed_leaves_nothing_half(store, tmp_path):
    """At whatever moment: what is in place is right, what a manifest pins is there, the next one brings the rest."""
    for number in range(2, 6):
        publish_tiny(store, tiny_release(f"tiny-{number}", version=number))
    route(store, "tiny-2", "tiny-3", "tiny-4", current="tiny-5", previous=RELEASE_ID)
    original, rng = files(store.folder), random.Random(1)
    for run in range(12):
        command = [sys.executable, "-c", FETCH, store.folder, tmp_path / str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 0.3))
            process.kill()
        for root in (tmp_path / str(run)).iterdir():
            check_whole(root, original)
            Syncer(store, root, Trust()).round()
            assert not (root / ".sync").exists()
            assert {path for path in original if not path.endswith("claim")} == set(files(root))


def check_whole(root, original):
    """Every file in place is the store's; with a manifest comes all that it pins, with a pointer its manifest."""
    placed = {path: content for path, content in files(root).items() if not path.startswith(".sync")}
    assert {path for path, content in placed.items() if original[path] != content} == set()
    for path in (root / "releases").glob("*.json"):
        assert set(json.loads(path.read_text()).get("files", ())) <= set(placed)
    if "releases/current" in placed:
        assert ModelRepository(root).get().id == "tiny-5"


@contextmanager
def sync_process(tmp_path, **settings):
    """The sync as the command that it is, with its log in a file; it is gone at the end."""
    environment = child_environment(SYNC_INTERVAL_S=0.05, **settings)
    command = [sys.executable, "-m", "services.release.sync"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, stdin=subprocess.PIPE)
    with process:
        try:
            yield process
        finally:
            process.kill()


async def test_the_command_follows_the_store_until_it_is_stopped(store, root, tmp_path, keys):
    """It begins before there is anything to copy, and says so once; SIGTERM ends it with 0."""
    later, log = tmp_path / "later", tmp_path / "log"
    trusted = f"{keys.public}, {keys.public}"
    with sync_process(tmp_path, STORE=later, MODEL_REPOSITORY=root, TRUSTED_KEY_FILES=trusted) as process:
        await until(lambda: "the store names no release" in log.read_text())
        store.folder.rename(later)
        await until((root / "releases" / "current").exists)
        await until(lambda: "store read again" in log.read_text())
        publish_tiny(Store(str(later)), tiny_release("tiny-2", version=2), private_key=keys.private)
        await until(lambda: ModelRepository(root).current == "tiny-2")
        process.terminate()
        assert process.wait(30) == 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["event"] for entry in entries].count("store not read") == 1
    assert [entry["release"] for entry in entries if entry["event"] == "release fetched"] == [RELEASE_ID, "tiny-2"]


async def test_the_command_ends_with_who_started_it(store, root, tmp_path):
    """Where it is told to, the end of its standard input is the end."""
    settings = {"STORE": store.folder, "MODEL_REPOSITORY": root, "STOP_WITH_STDIN": True}
    with sync_process(tmp_path, **settings) as process:
        await until((root / "releases" / "current").exists)
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "BONEAGE_STORE: field required"),
        ({"STORE": "somewhere"}, "BONEAGE_MODEL_REPOSITORY: name a folder of its own"),
        ({"STORE": "somewhere", "MODEL_REPOSITORY": "somewhere"}, "BONEAGE_MODEL_REPOSITORY: name a folder of its own"),
        ({"STORE": "nothing://x", "MODEL_REPOSITORY": "y"}, "no client for nothing://"),
        ({"STORE": "x", "MODEL_REPOSITORY": "y", "TRUSTED_KEY_FILES": "absent.pub"}, "absent.pub: is no public key"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(tmp_path, settings, reason):
    """It never fills the embedded repository or the store itself, from which it would remove what is not its own."""
    with sync_process(tmp_path, **settings) as process:
        assert process.wait(30) == 1
    assert reason in json.loads((tmp_path / "log").read_text())["reason"]
