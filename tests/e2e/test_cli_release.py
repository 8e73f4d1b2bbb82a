"""`boneage release` as a person calls it, against a real release service: what is printed, and how it exits."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from hashlib import sha256

import pytest

from services.core.adapters.publishing import publish_release
from services.core.adapters.store import Store
from tests.models import tiny_release, write_repository
from tests.serving import MODEL_SERVICES, address, child_environment, running

TOKEN = "a token"


@pytest.fixture
async def boneage(tmp_path):
    """Runs the command against a release service with two releases; gives its exit code, output and errors."""
    root = write_repository(tmp_path / "store")
    publish_release(Store(str(root)), tiny_release("tiny-2"), current=False)
    key, callers, token = tmp_path / "key", tmp_path / "callers.json", tmp_path / "token"
    key.write_text("the key")
    token.write_text(TOKEN + "\n")
    rights = ["promote", "canary", "shadow", "rollback", "collect"]
    caller = {"name": "ops", "token_sha256": sha256(TOKEN.encode()).hexdigest(), "rights": rights}
    callers.write_text(json.dumps({"callers": [caller]}))
    async with AsyncExitStack() as stack:
        models = [
            await stack.enter_async_context(running(name, model_repository=root, host_key_file=key))
            for name in MODEL_SERVICES
        ]
        release = await stack.enter_async_context(
            running(
                "release", store=str(root), host_key_file=key, callers_file=callers, reconcile_interval_s=0.1,
                model_hosts=",".join(map(address, models)),
            )
        )  # fmt: skip

        async def run(*arguments, as_ops=True):
            options = ("--server", address(release), *(("--token-file", str(token)) if as_ops else ()))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.cli", "release", *options, *arguments, env=child_environment(),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, errors = await process.communicate()
            return process.returncode, out.decode(), errors.decode()

        yield run


async def test_a_release_is_looked_at_moved_and_taken_back(boneage):
    """The whole way of a release, as the documentation has it."""
    code, out, _ = await boneage("list")
    assert code == 0
    assert "tiny-1" in out
    assert "current" in out
    assert await boneage("verify", "tiny-2") == (
        0, "tiny-2: 6 files are those that were published; no signature is asked for here\n", "",
    )  # fmt: skip
    assert (await boneage("shadow", "tiny-2"))[:2] == (0, "current tiny-1, shadow tiny-2\n")
    assert (await boneage("canary", "tiny-2", "--percent", "2.5"))[:2] == (0, "current tiny-1, canary tiny-2 (2.5%)\n")
    assert (await boneage("promote", "tiny-2"))[:2] == (0, "current tiny-2, previous tiny-1\n")
    assert (await boneage("rollback", "--reason", "ages look wrong"))[:2] == (0, "current tiny-1, previous tiny-2\n")
    code, out, _ = await boneage("show", "tiny-2")
    assert code == 0
    for told in ("tiny-2: previous", "boneage_regressor 1", "baseline MAE: 8.0 months", "promote by ops",
                 "rollback by ops: ages look wrong"):  # fmt: skip
        assert told in out


async def test_programs_get_json(boneage):
    """Listing and showing are for programs too."""
    _, out, _ = await boneage("list", "--json")
    listed = json.loads(out)
    assert [release["id"] for release in listed["releases"]] == ["tiny-1", "tiny-2"]
    assert listed["routing"]["current"] == "tiny-1"
    _, out, _ = await boneage("show", "--json")
    assert json.loads(out)["summary"]["status"] == "RELEASE_STATUS_CURRENT"


@pytest.mark.parametrize(
    ("arguments", "as_ops", "code", "told"),
    [
        (("promote", "tiny-2"), False, 1, "a token or certificate of somebody known here is needed"),
        (("promote", "nothing"), True, 1, "no release 'nothing'"),
        (("rollback",), True, 1, "there is no release before the current one"),
        (("canary",), True, 2, "either a release, or --end"),
        (("shadow", "tiny-2", "--end"), True, 2, "either a release, or --end"),
    ],
)
async def test_what_cannot_be_done_is_one_line(boneage, arguments, as_ops, code, told):
    """The reason, and an exit code that scripts can go by; no traceback."""
    found, _, errors = await boneage(*arguments, as_ops=as_ops)
    assert found == code
    assert told in errors
    assert "Traceback" not in errors


async def test_garbage_is_told_before_it_is_deleted(boneage):
    """`--dry-run` changes nothing."""
    asked = await boneage("gc", "--keep", "0", "--dry-run")
    assert asked[:2] == (0, "would delete releases: tiny-2\nwould delete versions: none\n")
    assert (await boneage("gc", "--keep", "0"))[:2] == (0, "deleted releases: tiny-2\ndeleted versions: none\n")
