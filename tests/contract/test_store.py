"""What every store keeps to, on a folder and on a real S3 server: atomic, exclusive, uncached, plain about failures."""

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from services.core.adapters.store import Store
from services.core.adapters.store_errors import told
from services.core.errors import ConfigurationError, ReleaseError
from tests.s3 import SECRET, running_s3

PUBLISHERS = 8


@pytest.fixture(scope="module")
def s3():
    """One S3 server for all."""
    with running_s3() as server:
        yield server


@pytest.fixture(params=["folder", "file URL", "S3"])
def url(request, tmp_path):
    """A store of this test's own."""
    if request.param == "S3":
        return f"{request.getfixturevalue('s3').url}/{tmp_path.name}"
    return str(tmp_path / "store") if request.param == "folder" else (tmp_path / "store").as_uri()


@pytest.fixture
def store(url):
    """The same, opened."""
    return Store(url)


def refused(reason, place="a/b"):
    """What a failure says: where, and why, and nothing else."""
    return pytest.raises(ReleaseError, match=f"^{place}: {reason}$")


def test_what_is_written_is_read_back(store, tmp_path):
    """By bytes, as a copy, and by its digest."""
    store.create("a/b", b"one")
    assert store.read("a/b") == b"one"
    assert store.sha256("a/b") == sha256(b"one").hexdigest()
    store.download("a/b", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"one"


def test_a_large_file_is_digested_block_by_block(store):
    """Several blocks give the digest of the whole."""
    content = os.urandom(3 * 2**20 + 17)
    store.replace("a/b", content)
    assert store.sha256("a/b") == sha256(content).hexdigest()


def test_what_is_created_is_never_written_over(store):
    """The second is told, and the first stays."""
    store.create("a/b", b"one")
    with refused("exists already"):
        store.create("a/b", b"two")
    assert store.read("a/b") == b"one"


def test_replacing_needs_nothing_to_replace(store):
    """It writes what is not there, and then writes it over."""
    store.replace("a/b", b"one")
    store.replace("a/b", b"two")
    assert store.read("a/b") == b"two"


def test_names_are_listed_in_order_without_what_is_half_written(store, url):
    """Folders and files alike; a folder that is not there has none, and one whose files are gone is not there."""
    for path in ("a/b", "a/a", "a/c/d", "e"):
        store.create(path, b"")
    store.replace("a/.b.123", b"half")
    assert store.list("a") == ["a", "b", "c"]
    assert store.list("nothing") == []
    assert (store.exists("a"), store.exists("a/b"), store.exists("a/d")) == (True, True, False)
    store.delete("a/c/d")
    assert store.list("a") == ["a", "b"]
    assert not store.exists("a/c")


def test_others_see_a_change_at_once(store, url):
    """Nothing is remembered: neither listings nor contents."""
    other = Store(url)
    assert other.list("a") == []
    assert not other.exists("a/b")
    store.create("a/b", b"one")
    assert (other.list("a"), other.exists("a/b"), other.read("a/b")) == (["b"], True, b"one")
    store.replace("a/b", b"two")
    assert other.read("a/b") == b"two"
    store.delete("a/b")
    assert (other.list("a"), other.exists("a/b")) == ([], False)


def test_deleting_what_is_not_there_is_no_failure(store):
    """Whoever cleans up need not look first."""
    store.delete("a/b")
    store.create("a/b", b"")
    store.delete("a/b")
    store.delete("a/b")


def test_of_many_who_create_at_once_one_wins(url):
    """Whoever comes second knows, and what is there is the winner's, whole."""
    start = threading.Barrier(PUBLISHERS)

    def create(number):
        store, content = Store(url), bytes([number]) * 100_000
        start.wait(30)
        try:
            store.create("a/b", content)
        except ReleaseError as error:
            return error.reason
        return content

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        outcomes = list(pool.map(create, range(PUBLISHERS)))
    assert outcomes.count("exists already") == PUBLISHERS - 1
    [won] = [content for content in outcomes if isinstance(content, bytes)]
    assert Store(url).read("a/b") == won


@pytest.mark.parametrize("read", [Store.read, Store.sha256, lambda store, path: store.download(path, Path(os.devnull))])
def test_what_is_not_there_is_told(store, read):
    """By its place in the store, without where the store lies."""
    with refused("not found"):
        read(store, "a/b")


@pytest.mark.parametrize("path", ["../b", "a/../../b", "/b", ""])
def test_nobody_leaves_the_store(store, path):
    """Paths come from manifests too: one that leads out is none."""
    for use in (store.read, store.delete, store.list, store.exists, lambda path: store.create(path, b"")):
        with pytest.raises(ReleaseError, match="no path inside of the store"):
            use(path)


def test_a_store_that_nobody_has_a_client_for_is_a_fault_of_the_configuration():
    """The URL itself is not told: it may hold a password."""
    with pytest.raises(ConfigurationError, match="no client for nothing://") as refused:
        Store("nothing://somebody:password@somewhere")
    assert "password" not in str(refused.value)


def test_an_s3_server_that_is_down_is_told_without_what_is_secret():
    """Neither address nor credentials are in the message."""
    with running_s3() as s3:
        store = Store(f"{s3.url}/away")
        s3.server.stop()
        for use in (store.read, store.exists, store.list, lambda path: store.create(path, b"")):
            with pytest.raises(ReleaseError, match=r"^a/b: the store does not answer \(\w+\)$") as refused:
                use("a/b")
            assert SECRET not in str(refused.value)
            assert refused.value.__cause__ is None


def test_a_bucket_that_is_not_there_holds_nothing(s3):
    """Reading and writing tell; there is nothing to list."""
    store = Store("s3://another/place")
    assert store.list("a") == []
    with refused("not found"):
        store.read("a/b")
    with refused("not found"):
        store.create("a/b", b"")


FULL = """
import resource, signal, sys
from services.core.adapters.store import Store
from services.core.errors import ReleaseError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = Store(sys.argv[1])
for write in (store.create, store.replace):
    try:
        write("a/b", bytes(200_000))
    except ReleaseError as error:
        print(error)
"""


def test_where_no_more_can_be_written_nothing_changes(tmp_path):
    """A write that breaks off leaves what was there, nothing where nothing was, and no half file beside it."""
    store = Store(str(tmp_path / "store"))
    store.create("a/c", b"")
    command = [sys.executable, "-c", FULL, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["a/b: file too large"] * 2
    assert [path.name for path in (tmp_path / "store" / "a").iterdir()] == ["c"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/srv/secret"), "permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/secret"), "no space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "/srv/secret"), "read-only file system"),
        (TimeoutError(SECRET), "the store does not answer"),
        (ConnectionResetError(SECRET), "the store does not answer"),
        (ValueError(SECRET), r"the store does not answer \(ValueError\)"),
    ],
)
def test_reasons_are_plain(error, reason):
    """What went wrong is told, and neither a path of this machine nor what a backend may have put into its message."""
    with refused(reason) as caught, told("a/b"):
        raise error
    assert caught.value.__cause__ is None
