"""Label Studio as the oracle, against a real server: tasks with suggestions go out, outlines by people come in."""

import json
import socket
import subprocess
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.domain.metrics import dice
from tests.label_studio import TOKEN, label_studio, label_studio_command
from tests.web import answering
from training.active_learning.brush import decode_mask, encode_mask
from training.active_learning.label_studio import BRUSH, LABEL, PICTURE, LabelStudio
from training.active_learning.oracles import Question
from training.run.exits import BadConfigurationError, FailedError

MASKS = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda shape: arrays(bool, shape))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all."""
    with label_studio(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


@pytest.fixture
def oracle(server, monkeypatch, request):
    """An oracle with a project of its own."""
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", TOKEN)
    return LabelStudio(server.url, request.node.name[:50])


def outline(*, top=10, left=15, height=48, width=40):
    """A rectangle of 25 by 16 px."""
    mask = np.zeros((height, width), bool)
    mask[top : top + 25, left : left + 16] = True
    return mask


def question(id_, mask):
    """A noisy radiograph with a suggestion."""
    return Question(id_, np.random.default_rng(int(id_)).random(mask.shape, np.float32), mask)


def tasks_of(server, oracle):
    """The tasks of an oracle's project, by id."""
    (project,) = [p for p in server.call("GET", "/api/projects/")["results"] if p["title"] == oracle.project]
    listed = server.call("GET", f"/api/tasks/?project={project['id']}")["tasks"]
    return {task["data"]["id"]: server.call("GET", f"/api/tasks/{task['id']}/") for task in listed}


def colleague(server):
    """The number of a second user."""
    user = {"email": "second@example.org", "username": "second", "first_name": "A", "last_name": "Colleague"}
    known = [other["id"] for other in server.call("GET", "/api/users/") if other["email"] == user["email"]]
    return known[0] if known else server.call("POST", "/api/users/", user)["id"]


def submit(server, task, *masks, cancelled=False, **by):
    """One annotation, a stroke for each mask, as the browser submits it."""
    strokes = [
        {"type": "brushlabels", "from_name": BRUSH, "to_name": PICTURE, "original_width": mask.shape[1],
         "original_height": mask.shape[0], "image_rotation": 0,
         "value": {"format": "rle", "rle": encode_mask(mask), "brushlabels": [LABEL]}}
        for mask in masks
    ]  # fmt: skip
    body = {"result": strokes, "was_cancelled": cancelled, **by}
    server.call("POST", f"/api/tasks/{task['id']}/annotations/", body)


@given(MASKS)
def test_code_of_a_mask_inverts(mask):
    """What is written is read."""
    assert np.array_equal(decode_mask(encode_mask(mask), height=mask.shape[0], width=mask.shape[1]), mask)


def test_long_runs_are_split():
    """A run longer than the widest length field: a picture of 300 by 400."""
    mask = np.zeros((300, 400), bool)
    mask[100:250] = True
    assert np.array_equal(decode_mask(encode_mask(mask), height=300, width=400), mask)


@given(MASKS, st.integers(0, 400))
def test_broken_code_is_refused(mask, cut):
    """A code that ends early or is of another size is no mask."""
    code = encode_mask(mask)
    height, width = mask.shape
    with pytest.raises(ValueError, match="ends before its last pixel"):
        decode_mask(code[: min(cut, len(code) - 2)], height=height, width=width)
    with pytest.raises(ValueError, match="values, not"):
        decode_mask(code, height=height + 1, width=width)
    with pytest.raises(ValueError, match="not a list of bytes"):
        decode_mask([300, -1], height=height, width=width)


def test_code_is_that_of_label_studio(tmp_path):
    """Its own converter reads what is written here, and is read here: both ways, on a ragged mask."""
    mask = np.random.default_rng(0).random((37, 53)) > 0.6
    mask[5:20, 3:40] = True
    python = label_studio_command().parent / "python"
    script = (
        "import json, sys, numpy as np\n"
        "from label_studio_sdk.converter import brush\n"
        "ours = json.load(open(sys.argv[1]))\n"
        "alpha = brush.decode_rle(ours['code']).reshape(37, 53, 4)[..., 3]\n"
        "theirs = brush.mask2rle(np.array(ours['mask'], dtype=np.uint8) * 255)\n"
        "json.dump({'mask': (alpha > 127).tolist(), 'code': list(map(int, theirs))}, open(sys.argv[2], 'w'))\n"
    )
    sent, received = tmp_path / "sent.json", tmp_path / "received.json"
    sent.write_text(json.dumps({"code": encode_mask(mask), "mask": mask.tolist()}))
    subprocess.run([python, "-c", script, sent, received], check=True, timeout=120)
    theirs = json.loads(received.read_text())
    assert np.array_equal(np.array(theirs["mask"]), mask)
    assert np.array_equal(decode_mask(theirs["code"], height=37, width=53), mask)


def test_question_becomes_one_task_with_its_picture_and_suggestion(server, oracle):
    """Asked twice it is one task; the picture is there; what was found is drawn already, and nothing where none was."""
    asked = [question("1", outline()), question("2", np.zeros((48, 40), bool))]
    oracle.ask(asked)
    oracle.ask(asked)
    tasks = tasks_of(server, oracle)
    assert set(tasks) == {"1", "2"}
    (prediction,) = tasks["1"]["predictions"]
    (stroke,) = prediction["result"]
    suggested = decode_mask(stroke["value"]["rle"], height=stroke["original_height"], width=stroke["original_width"])
    assert np.array_equal(suggested, outline())
    assert all(not p["result"] for p in tasks["2"]["predictions"])
    request = urllib.request.Request(
        server.url + tasks["1"]["data"]["image"], headers={"Authorization": f"Token {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as picture:
        assert picture.read(8) == b"\x89PNG\r\n\x1a\n"


def test_answers_are_what_people_submitted(server, oracle):
    """Strokes of one annotation are joined; what is skipped is answered by nothing; what nobody asked for is not."""
    oracle.ask([question(id_, outline()) for id_ in ("1", "2", "3")])
    assert oracle.answers(["1", "2"]) == {}
    tasks = tasks_of(server, oracle)
    submit(server, tasks["1"], outline(left=2), outline(left=20))
    submit(server, tasks["2"], outline(), cancelled=True)
    submit(server, tasks["3"], outline())
    answers = oracle.answers(["1", "2"])
    assert set(answers) == {"1", "2"}
    assert answers["2"] is None
    assert np.array_equal(answers["1"].mask, outline(left=2) | outline(left=20))
    assert answers["1"].annotators == 1


def test_several_annotators_are_waited_for_and_compared(server, oracle):
    """Outlines of two people make an answer, with their Dice; of each, what they submitted last."""
    both = replace(oracle, annotators=2)
    both.ask([question("1", outline())])
    (task,) = tasks_of(server, both).values()
    submit(server, task, outline(left=2))
    submit(server, task, outline())
    assert both.answers(["1"]) == {}
    submit(server, task, outline(left=19), completed_by=colleague(server))
    answer = both.answers(["1"])["1"]
    assert answer.annotators == 2
    assert answer.agreement == pytest.approx(dice(outline(), outline(left=19)))
    assert np.array_equal(answer.mask, outline() | outline(left=19))


def test_who_skips_a_task_and_outlines_it_later_has_outlined_it(server, oracle):
    """And of two, of whom one has skipped it, the outline counts."""
    both = replace(oracle, annotators=2)
    both.ask([question("1", outline()), question("2", outline())])
    tasks = tasks_of(server, both)
    submit(server, tasks["1"], outline(), cancelled=True)
    submit(server, tasks["1"], outline(left=2))
    submit(server, tasks["2"], outline(), cancelled=True)
    assert both.answers(["1", "2"]) == {}
    someone = colleague(server)
    for task in tasks.values():
        submit(server, task, outline(), cancelled=True, completed_by=someone)
    answers = both.answers(["1", "2"])
    assert answers["2"] is None
    assert answers["1"].annotators == 1
    assert np.array_equal(answers["1"].mask, outline(left=2))


def test_more_tasks_than_a_page_holds(server, oracle, monkeypatch):
    """A project of several pages is read to its end."""
    monkeypatch.setattr("training.active_learning.label_studio.PAGE", 2)
    oracle.ask([question(str(id_), outline()) for id_ in range(5)])
    oracle.ask([question(str(id_), outline()) for id_ in range(6)])
    tasks = tasks_of(server, oracle)
    assert sorted(tasks) == [str(id_) for id_ in range(6)]
    submit(server, tasks["4"], outline())
    assert set(oracle.answers([str(id_) for id_ in range(6)])) == {"4"}


def test_outline_of_nothing_is_refused(server, oracle):
    """Someone pressed submit without drawing: said, with the radiograph's id."""
    oracle.ask([question("7", outline())])
    submit(server, tasks_of(server, oracle)["7"])
    with pytest.raises(BadConfigurationError, match="outline of 7 in Label Studio covers nothing"):
        oracle.answers(["7"])


def test_wrong_or_absent_token_is_named(server, oracle, monkeypatch):
    """What is wrong is said, without the token."""
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", "wrong-token-of-nobody")
    with pytest.raises(BadConfigurationError, match="401") as refused:
        oracle.ask([question("1", outline())])
    assert "wrong-token" not in str(refused.value)
    monkeypatch.delenv("LABEL_STUDIO_TOKEN")
    with pytest.raises(BadConfigurationError, match="LABEL_STUDIO_TOKEN"):
        oracle.answers(["1"])
    with pytest.raises(ValueError, match="no address"):
        LabelStudio("file:///etc/passwd", "nowhere")


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (503, b"down for a while", FailedError),
        (500, b"", FailedError),
        (429, b"too fast", FailedError),
        (200, b'{"results": [', BadConfigurationError),
        (200, b"<html>another server</html>", BadConfigurationError),
        (404, b"no such page", BadConfigurationError),
        (403, b"not yours", BadConfigurationError),
    ],
)
def test_server_that_fails_is_worth_another_try_and_one_that_refuses_is_not(monkeypatch, status, content, kind):
    """The exit status tells who starts jobs which it was; what the server said is in the message."""
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", TOKEN)
    with answering(status, content) as url, pytest.raises(kind, match="GET /api/projects/") as failed:
        LabelStudio(url, "wrists").answers(["1"])
    assert TOKEN not in str(failed.value)
    if status != 200:
        assert f"{status} {content.decode()}" in str(failed.value)


def test_server_that_does_not_answer_is_worth_another_try(monkeypatch):
    """Nobody listens; or somebody does, and says nothing."""
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", TOKEN)
    monkeypatch.setattr("training.active_learning.label_studio.TIMEOUT_S", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        oracle = LabelStudio(f"http://127.0.0.1:{server.getsockname()[1]}", "wrists")
        with pytest.raises(FailedError, match="refused"):
            oracle.answers(["1"])
        server.listen()
        with pytest.raises(FailedError, match="timed out"):
            oracle.answers(["1"])


def test_personal_token_is_exchanged(server, oracle, monkeypatch):
    """The newer kind of token, where an organisation allows no other."""
    (organisation,) = server.call("GET", "/api/organizations/")
    settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
    server.call("POST", "/api/jwt/settings", settings)
    assert organisation["id"]
    personal = server.call("POST", "/api/token/", {})["token"]
    assert personal.count(".") == 2
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", personal)
    oracle.ask([question("1", outline())])
    assert set(tasks_of(server, oracle)) == {"1"}
