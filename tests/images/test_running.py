"""The images at work, confined as a cluster confines them: nobody's user, no network, a root that cannot be written."""

from pathlib import Path

import pytest

from services.core.domain.contracts import CONTRACTS
from tests.images.containers import output, running
from tests.waiting import until

PATIENCE_S = 120
MODELS = Path(__file__).parents[2] / "deploy" / "models"
STAGES = {
    f"BONEAGE_{name}_ADDRESS": "nowhere.invalid:50051" for name in ("SEGMENTATION", "ENHANCEMENT", "REGRESSION", "CAM")
}
TRITON = (
    "tritonserver", "--model-repository=/models", "--model-control-mode=explicit", "--disable-auto-complete-config",
    "--allow-http=false", *(f"--load-model={name}" for name in CONTRACTS if (MODELS / name).is_dir()),
)  # fmt: skip
TRITON_READY = """
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
client = InferenceServerClient("127.0.0.1:8001")
picture = np.zeros((1, 1, 256, 256), np.float32)
tensor = InferInput("radiograph", picture.shape, "FP32")
tensor.set_data_from_numpy(picture)
print(client.infer("hand_segmenter", [tensor]).as_numpy("hand_probability").shape)
"""


@pytest.mark.parametrize("service", ["segmentation", "enhancement", "regression", "cam"])
async def test_model_services_answer_with_what_is_in_the_image(service):
    """Ready with the embedded models, and gone with exit code 0 when asked to."""
    with running("serving", "python", "-m", f"services.{service}") as container:
        await until(lambda: container.status("/readyz") == "200", timeout_s=PATIENCE_S)
        assert container.status("/livez") == container.status("/startupz") == "200"
        container.stop()
        assert container.exit_code == 0


async def test_the_assessment_lives_without_its_stages_and_says_so():
    """It is alive, so that nobody restarts it, and not ready, so that nobody calls it."""
    with running("serving", "python", "-m", "services.assessment", environment=STAGES) as container:
        await until(lambda: container.status("/livez") == "200", timeout_s=PATIENCE_S)
        assert container.status("/readyz") == "503"
        container.stop()
        assert container.exit_code == 0


async def test_the_release_service_begins_with_the_embedded_release():
    """From the release image alone: seed, then serve."""
    command = "python -m services.release.seed && exec python -m services.release"
    environment = {"BONEAGE_STORE": "/tmp/store", "BONEAGE_MODEL_HOSTS": "nowhere.invalid:50051"}
    with running("release", "sh", "-c", command, environment=environment) as container:
        await until(lambda: container.status("/livez") == "200", timeout_s=PATIENCE_S)
        assert container.python("print(open('/tmp/store/releases/current').read())")
        container.stop()
        assert container.exit_code == 0


def test_a_radiograph_is_read():
    """All services as one process group, in one container."""
    read = output("serving", "boneage", "assess", "deploy/samples/phantom-01.dcm")
    assert "OK" in read
    assert "months" in read


def test_training_jobs_start():
    """Everything that a job imports is there, torch too."""
    assert "--config" in output("training", "python", "-m", "training.jobs.transfer", "--help")


async def test_triton_computes_the_embedded_models():
    """The real server, on this project's backend, from a repository that it only reads."""
    # Triton's Python backend aborts now and then while it loads beside much else (triton-inference-server/server#8882);
    # a cluster starts it again too.
    options = (f"--volume={MODELS}:/models:ro", "--restart=on-failure:3")
    with running("triton-cpu", *TRITON, options=options) as container:
        await until(lambda: container.status("/metrics", port=8002) == "200", timeout_s=2 * PATIENCE_S)
        assert container.python(TRITON_READY)


async def test_the_store_of_the_cluster_tests_answers():
    """The S3 server of the image for tests."""
    with running("tests") as container:
        await until(lambda: container.status("/moto-api/", port=5000) == "200", timeout_s=PATIENCE_S)
