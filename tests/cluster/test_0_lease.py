"""Of two release services one decides, by a Lease of a real API server: after a kill, a stop, and a cut connection."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from services.cli.supervisor import is_serving
from tests.cluster.kube import Cluster
from tests.models import write_repository
from tests.ports import LOOPBACK, free_port
from tests.relay import relay_to
from tests.serving import child_environment
from tests.waiting import until

SPACE = "t-lease"
ACCOUNT = "release"
RULES = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}]


@pytest.fixture(scope="module")
def account(cluster: Cluster) -> Iterator[dict[str, str]]:
    """The API server's address and authorities, and the token of an account that has the rights of the chart's."""
    cluster.namespace(SPACE)
    metadata = {"name": ACCOUNT, "namespace": SPACE}
    api = "rbac.authorization.k8s.io"
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": RULES},
        {
            "apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SPACE}],
        },
    )  # fmt: skip
    config = json.loads(cluster("config", "view", "--raw", "--flatten", "--minify", "-o", "json").output)
    token = cluster("create", "token", ACCOUNT, "-n", SPACE).output.strip()
    yield {**config["clusters"][0]["cluster"], "token": token}
    cluster("delete", "namespace", SPACE, "--wait=false")


def kubeconfig(folder: Path, account: dict[str, str], server: str) -> Path:
    """A file by which a process reaches the API server at `server`, whatever name its certificate has."""
    path = folder / f"{urlsplit(server).port}.kubeconfig"
    there = {key: value for key, value in account.items() if key != "token"}
    there |= {"server": server, "tls-server-name": str(urlsplit(account["server"]).hostname)}
    path.write_text(
        yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": there}],
            "users": [{"name": "it", "user": {"token": account["token"]}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        })
    )  # fmt: skip
    return path


class Service:
    """A release service in a process of its own."""

    def __init__(self, folder: Path, name: str, lease: str, config: Path) -> None:
        self.port, self.log = free_port(), folder / f"{name}.log"
        told = {"STORE": folder / "store", "MODEL_HOSTS": "127.0.0.1:9", "LEASE": f"{SPACE}/{lease}"}
        environment = child_environment(**told, GRPC_PORT=self.port) | {"KUBECONFIG": str(config)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.release"], env=environment, stdout=log, stderr=log
            )

    async def serves(self) -> bool:
        """Whether it is the active one."""
        return await is_serving(f"{LOOPBACK}:{self.port}", timeout_s=1.0)

    def told(self, event: str) -> list[float]:
        """When it logged that, in seconds."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines if line["event"] == event]

    async def end(self, number: signal.Signals) -> None:
        """Stop or kill it, and wait until it has ended."""
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, 30)


@asynccontextmanager
async def two_services(folder: Path, lease: str, *configs: Path):
    """The first is active, the second waits."""
    write_repository(folder / "store")
    services = [Service(folder, "first", lease, configs[0])]
    try:
        await until(services[0].serves)
        services.append(Service(folder, "second", lease, configs[-1]))
        await until(lambda: bool(services[1].told("lease awaited")))
        yield services
    finally:
        for service in services:
            service.process.kill()
            service.process.wait()


async def follows(first: Service, second: Service, *, timeout_s: float) -> float:
    """Seconds until the second serves; both never do."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def took_over() -> bool:
        serving = await asyncio.gather(first.serves(), second.serves())
        assert not all(serving)
        return serving[1]

    await until(took_over, timeout_s=timeout_s)
    return loop.time() - began_s


async def test_a_clean_stop_hands_over_at_once_and_a_kill_after_the_lease(account, tmp_path):
    """Within 2 s, and within 20 s; the store's rights and the Lease's are enough."""
    config = kubeconfig(tmp_path, account, account["server"])
    async with two_services(tmp_path, "stopped", config) as (first, second):
        stopping = asyncio.create_task(first.end(signal.SIGTERM))
        assert await follows(first, second, timeout_s=10) < 2.0
        await stopping
        assert first.process.returncode == 0
        third = Service(tmp_path, "third", "stopped", config)
        try:
            await until(lambda: bool(third.told("lease awaited")))
            await second.end(signal.SIGKILL)
            seconds = await follows(second, third, timeout_s=30)
            print(f"cluster: a leader that is killed is followed after {seconds:.1f} s")
            assert 10.0 < seconds < 20.0
        finally:
            third.process.kill()
            third.process.wait()


async def test_who_is_cut_off_stops_before_another_decides(account, tmp_path):
    """The API server says nothing for longer than the deadline: the leader ends non-zero, then the other leads."""
    there = urlsplit(account["server"])
    async with relay_to(there.port or 443, str(there.hostname)) as relay:
        cut = kubeconfig(tmp_path, account, f"https://{relay.address}")
        straight = kubeconfig(tmp_path, account, account["server"])
        async with two_services(tmp_path, "cut", cut, straight) as (first, second):
            relay.hold()
            seconds = await follows(first, second, timeout_s=40)
            print(f"cluster: a leader that is cut off is followed after {seconds:.1f} s")
            assert await asyncio.to_thread(first.process.wait, 5) != 0
            [lost_s], [leads_s] = first.told("the lease is lost"), second.told("leading")
            assert lost_s < leads_s
            relay.release()
