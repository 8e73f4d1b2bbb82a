"""Follows a Job of the training chart: the logs of its pods over restarts, what keeps it waiting, and how it ends."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from math import ceil
from typing import TYPE_CHECKING, Final

from services.cli.jobs import LOOK_S, run_of
from services.cli.jobs_errors import ClusterError, NotThereError
from services.cli.jobs_objects import EXIT_CODES, Run, container, hindrance, outcome_of
from services.cli.terminal import say
from services.cli.usage import printable

if TYPE_CHECKING:
    from services.cli.jobs_cluster import Cluster

PATIENCE_S: Final = 120.0
"""How long a cluster may be away while a Job is followed: so long as a control plane that is upgraded."""
DETACHED: Final = 130
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
CANCELLED: Final = EXIT_CODES["interrupted"]


@dataclass(slots=True)
class Follower:
    """What of a Job's pods has been printed already: `seen` is the time of the last line of each."""

    cluster: "Cluster"
    name: str
    seen: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    line: str = ""
    said: str = ""
    away_since: float = 0.0

    def follow(self) -> int:
        """Print until the Job ends; its exit code. Ctrl-C detaches. Raises ClusterError where the cluster is away."""
        try:
            while (code := self._looked()) is None:
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            say(f"\ndetached; the Job goes on. To follow it again: {self._go_on()}")
            say(f"To end it: {self._command('cancel')}")
            return DETACHED
        return code

    def _looked(self) -> int | None:
        """Print what is new; the exit code, once there is one."""
        try:
            run = run_of(self.cluster, self.name)
            self._look(run)
        except NotThereError:
            say(f"{self.name} is cancelled")
            return CANCELLED
        except ClusterError as error:
            self.away_since = self.away_since or time.monotonic()
            if time.monotonic() - self.away_since > PATIENCE_S:
                raise ClusterError(f"{error}; the Job may go on: {self._go_on()}") from None
            return None
        self.away_since = 0.0
        return self._told(run) if run.ended else None

    def print_logs(self) -> int:
        """Print what there is."""
        for pod in run_of(self.cluster, self.name).pods:
            if container(pod).get("state", {}).keys() & {"running", "terminated"}:
                self._print(pod["metadata"]["name"], follow=False)
        return 0

    def _look(self, run: Run) -> None:
        for pod, after in zip_longest(run.pods, run.pods[1:]):
            name, state = pod["metadata"]["name"], container(pod).get("state", {})
            if name in self.done:
                continue
            if "running" in state:
                self._print(name, follow=True)
            elif "terminated" in state:
                self._print(name, follow=False)
                if after or run.ended:
                    self.done.add(name)
                if after:
                    self._say(f"pod {name} ended: {': '.join(filter(None, outcome_of(pod)))}; another goes on")
            else:
                self._say(hindrance(pod))
        if not run.pods:
            self._say({"queued": "Kueue has not let it start yet", "suspended": "it is suspended"}.get(run.state, ""))

    def _print(self, pod: str, *, follow: bool) -> None:
        """Lines that were not printed yet; each has its time before it, by which it is known."""
        last = self.seen.get(pod, "")
        with suppress(NotThereError):  # a pod that has gone has no log; that the Job has gone is told elsewhere
            for line in self.cluster.log(pod, follow=follow, since_s=_seconds_since(last) if last else None):
                at, _, text = line.partition(" ")
                if not TIME.match(at):  # a node that has no log gives the reason in its place
                    self._say(f"no log of {pod}: {line}")
                elif at > last:
                    self.line = printable_line(text)
                    print(self.line, flush=True)
                    self.seen[pod] = last = at

    def _say(self, text: str) -> None:
        if text and text != self.said:
            say(f"{self.name}: {printable(text)}")
            self.said = text

    def _told(self, run: Run) -> int:
        message = printable(run.message)
        say(": ".join([self.name, run.outcome, *([message] if message not in ("", self.line) else [])]))
        return run.exit_code

    def _go_on(self) -> str:
        return self._command("logs --follow")

    def _command(self, what: str) -> str:
        return f"boneage jobs {what} {self.name} --namespace {self.cluster.namespace}"


def printable_line(text: str) -> str:
    """A line of a log for a terminal; tabs stay."""
    return "\t".join(map(printable, text.rstrip("\r").split("\t")))


def _seconds_since(time_of_line: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int:
    """Whole seconds since a line, with some to spare for clocks that differ."""
    at = datetime.fromisoformat(time_of_line[:19]).replace(tzinfo=UTC)
    return max(1, ceil((now() - at).total_seconds()) + 60)
