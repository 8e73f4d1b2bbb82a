"""Label Studio as the oracle: questions become tasks with the committee's outline, submitted annotations are answers.

Spoken to by plain HTTP: https://api.labelstud.io.
"""

import io
import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.active_learning.brush import decode_mask, encode_mask
from training.active_learning.oracles import Answers, Mask, Question, answer_of, same_size
from training.data.rows import as_bytes
from training.run.exits import BadConfigurationError, FailedError

TIMEOUT_S: Final = 60.0
BUSY: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
PAGE: Final = 100
LABEL: Final = "Hand"
BRUSH: Final = "outline"
PICTURE: Final = "radiograph"
CONFIG: Final = f"""<View>
  <Image name="{PICTURE}" value="$image" zoom="true" brightnessControl="true" contrastControl="true"/>
  <BrushLabels name="{BRUSH}" toName="{PICTURE}"><Label value="{LABEL}" background="#00b0a0"/></BrushLabels>
</View>"""


@dataclass(frozen=True, slots=True)
class LabelStudio:
    """People with a browser, at `url`. The token is in the environment, under the name `token_variable`.

    A project of the name `project` is made where there is none. An outline is taken once `annotators` have submitted
    one or skipped the task; where several did, what most of them covered, and nothing where most have skipped it.
    """

    url: str
    project: str
    annotators: int = 1
    token_variable: str = "LABEL_STUDIO_TOKEN"  # noqa: S105 - a name, not a token
    kind: Literal["label_studio"] = "label_studio"

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: {self.url!r} is no address of a web server")
        if self.annotators < 1:
            raise ValueError("annotators: at least one has to outline")

    def ask(self, questions: Sequence[Question]) -> None:
        """Make a task of each question that is none yet."""
        if not questions:
            return
        session = _Session(self.url, self._token())
        project = self._project(session)
        known = {task["data"].get("id") for task in session.tasks(project)}
        for question in questions:
            if question.id not in known:
                image = session.upload(project, f"{question.id}.png", _png(question.frame))
                task = {"data": {"id": question.id, "image": image}, "predictions": [_prediction(question.suggestion)]}
                session.call("POST", f"/api/projects/{project}/import", [task])

    def answers(self, ids: Sequence[str]) -> Answers:
        """Those that as many annotators as are wanted have submitted, or skipped."""
        session = _Session(self.url, self._token())
        wanted = set(ids)
        found: Answers = {}
        for task in session.tasks(self._project(session)):
            id_ = task["data"].get("id")
            said = task["total_annotations"] + task["cancelled_annotations"]
            if id_ in wanted and said >= self.annotators:
                # What a task itself says of its annotations has those that were skipped; the list of them has not.
                people = _by_person(session.call("GET", f"/api/tasks/{task['id']}/")["annotations"])
                drawn = [result for result in people if result is not None]
                if len(people) >= self.annotators:
                    masks = [_outline(result, id_) for result in drawn]
                    found[id_] = answer_of(masks, skipped=len(people) - len(drawn))
        return found

    def _token(self) -> str:
        token = os.environ.get(self.token_variable, "").strip()
        if not token:
            raise BadConfigurationError(f"the environment has no {self.token_variable}, the token for {self.url}")
        return token

    def _project(self, session: "_Session") -> int:
        """The project's number; it is made where there is none."""
        for entry in session.pages("/api/projects/?", "results"):
            if entry["title"] == self.project:
                return int(entry["id"])
        settings = {"title": self.project, "label_config": CONFIG, "maximum_annotations": self.annotators}
        return int(session.call("POST", "/api/projects/", settings | {"show_collab_predictions": True})["id"])


def _by_person(annotations: Sequence[dict[str, Any]]) -> list[Any]:
    """What each annotator submitted last; None where that one has only skipped the task."""
    drawn_last = sorted(annotations, key=lambda a: (not a.get("was_cancelled"), int(a["id"])))
    said: dict[str, Any] = {}
    for annotation in drawn_last:
        person = annotation.get("completed_by")
        name = str(person.get("id") if isinstance(person, dict) else person)
        said[name] = None if annotation.get("was_cancelled") else annotation["result"]
    return list(said.values())


class _Session:
    """Calls to one server.

    Raises BadConfigurationError where it refuses, FailedError where it does not answer or fails, with what it said and
    never with the token.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.authorization = ""
        if token.count(".") == 2:  # a personal access token is a JWT that is exchanged for a short-lived one
            token = self.call("POST", "/api/token/refresh/", {"refresh": token})["access"]
            self.authorization = f"Bearer {token}"
        else:
            self.authorization = f"Token {token}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer to a JSON request."""
        content = None if body is None else json.dumps(body).encode()
        return self._send(method, path, content, "application/json")

    def upload(self, project: int, name: str, content: bytes) -> str:
        """Store a PNG file with the project; returns its address for a task."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        body = io.BytesIO()
        body.write(f"{head}Content-Type: image/png\r\n\r\n".encode())
        body.write(content)
        body.write(f"\r\n--{boundary}--\r\n".encode())
        path = f"/api/projects/{project}/import?commit_to_project=false"
        stored = self._send("POST", path, body.getvalue(), f"multipart/form-data; boundary={boundary}")
        entry = self.call("GET", f"/api/import/file-upload/{stored['file_upload_ids'][0]}")
        return f"/data/{entry['file']}"

    def tasks(self, project: int) -> Iterator[dict[str, Any]]:
        """All tasks of a project."""
        return self.pages(f"/api/tasks/?project={project}&", "tasks")

    def pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        """The entries of a list that comes in pages."""
        page, seen = 1, 0
        while True:
            answer = self.call("GET", f"{path}page={page}&page_size={PAGE}")
            yield from answer[key]
            page, seen = page + 1, seen + len(answer[key])
            if not answer[key] or seen >= answer.get("total", answer.get("count", 0)):
                return

    def _send(self, method: str, path: str, content: bytes | None, content_type: str) -> Any:
        where = f"{self.url}: {method} {path.partition('?')[0]}"
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        request = urllib.request.Request(self.url + path, data=content, headers=headers, method=method)  # noqa: S310 - http(s) is checked
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read(300).decode(errors="replace")
            passing = error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in BUSY
            kind = FailedError if passing else BadConfigurationError
            raise kind(f"{where}: {error.code} {said}") from error
        except ValueError as error:  # no address, or an answer that is no JSON: something else listens there
            raise BadConfigurationError(f"{where}: {error}") from error
        except (OSError, HTTPException) as error:
            raise FailedError(f"{where}: {error}") from error


def _png(frame: NDArray[np.float32]) -> bytes:
    _, file = cv2.imencode(".png", as_bytes(frame))
    return file.tobytes()


def _prediction(suggestion: Mask) -> dict[str, Any]:
    """A pre-annotation: the committee's own outline, or none where it has found nothing."""
    if not suggestion.any():
        return {"model_version": "committee", "result": []}
    height, width = suggestion.shape
    stroke = {
        "type": "brushlabels", "from_name": BRUSH, "to_name": PICTURE, "image_rotation": 0,
        "original_width": width, "original_height": height,
        "value": {"format": "rle", "rle": encode_mask(suggestion), "brushlabels": [LABEL]},
    }  # fmt: skip
    return {"model_version": "committee", "result": [stroke]}


def _outline(result: Sequence[dict[str, Any]], id_: str) -> Mask:
    """All strokes of one annotation together."""
    masks: list[Mask] = []
    for stroke in result:
        value = stroke.get("value", {})
        if "rle" in value:
            try:
                size = {"height": int(stroke["original_height"]), "width": int(stroke["original_width"])}
                masks.append(decode_mask(value["rle"], **size))
            except (KeyError, ValueError) as error:
                raise BadConfigurationError(f"the outline of {id_} in Label Studio: {error}") from error
    together = np.any([same_size(mask, masks[0]) for mask in masks], axis=0) if masks else np.zeros((1, 1), bool)
    if not together.any() or together.all():
        what = "everything" if together.any() else "nothing"
        raise BadConfigurationError(
            f"the outline of {id_} in Label Studio covers {what}; who sees nothing to outline skips the task"
        )
    return np.asarray(together, np.bool_)
