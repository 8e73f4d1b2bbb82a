"""What `boneage doctor --schedulable` asks of a cluster; what the scheduler says is shown by tests/cluster."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml

pytest.importorskip("kubernetes", reason="needs the cluster extra: pip install -e '.[cluster]'")

from services.cli import doctor_schedulable
from services.cli.doctor_schedulable import check_schedulable


@contextmanager
def running_api():
    """An API server that schedules whatever it is asked for; yields its port and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path.partition("?")[0], json.loads(content or "null")))
            condition = {"type": "PodScheduled", "status": "True"}
            body = json.dumps({"metadata": {"name": "probe"}, "status": {"conditions": [condition]}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 -- names that the library asks for

        def log_message(self, *_):
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "doctor-1", "uid": "u-1"}


@pytest.mark.parametrize(
    ("namespace", "uid", "owners"),
    [(None, "u-1", [OWNER]), ("serving", "u-1", [OWNER]), ("other", "u-1", None), (None, "", None)],
)
async def test_a_pod_on_trial_goes_with_the_doctor(monkeypatch, tmp_path, namespace, uid, owners):
    """Also when the doctor is killed; but not into a namespace where an owner of another counts as gone."""
    (tmp_path / "namespace").write_text("serving")
    monkeypatch.setattr(doctor_schedulable, "OWN_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("POD_NAME", "doctor-1")
    monkeypatch.setenv("POD_UID", uid)
    metadata = {"generateName": "probe-"} | ({"namespace": namespace} if namespace else {})
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump({"metadata": metadata, "spec": {"containers": []}}))
    with running_api() as (port, asked):
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        # The client read the variable when it was imported.
        place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        monkeypatch.setattr(place, str(tmp_path / "kubeconfig"))
        assert not (await check_schedulable(tmp_path / "pod.yaml")).fix
    made, *_, last = asked
    assert made[:2] == ("POST", f"/api/v1/namespaces/{namespace or 'serving'}/pods")
    assert made[2]["metadata"].get("ownerReferences") == owners
    assert last[:2] == ("DELETE", f"/api/v1/namespaces/{namespace or 'serving'}/pods/probe")
