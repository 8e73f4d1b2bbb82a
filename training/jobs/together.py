"""Several processes of one job that train together, on one machine or on several.

    python -m training.jobs.together --processes 4 transfer --config FILE
    python -m training.jobs.together --nodes 2 --node 0 --first-node HOST --processes 4 transfer --config FILE

It is torchrun, but ends as the job does: torchrun says 1 for whatever ended its processes, and on Kubernetes a wrong
configuration would be tried again and again. For a machine of several GPUs, `--processes` is their number.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from training.run.exits import ExitCode

PORT: Final = 29500
SHARING: Final = ("transfer",)
"""Jobs whose processes train one network; of others each would do all the work, in the same folder."""
TELLING: Final = (
    ExitCode.BAD_CONFIGURATION,
    ExitCode.STORE_UNWRITABLE,
    ExitCode.FAILED,
    ExitCode.WAITING_FOR_LABELS,
    ExitCode.INTERRUPTED,
)
"""The first that one of the processes ended with is the job's: when one fails, torchrun interrupts the others."""


def main(arguments: Sequence[str]) -> int:
    """Run the job's processes of this machine; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1, help="machines in all")
    parser.add_argument("--node", type=int, default=0, help="number of this one, from 0")
    parser.add_argument("--first-node", default="", metavar="HOST", help="name of number 0; needed with several")
    parser.add_argument("--port", type=int, default=PORT, help="where number 0 waits for the others")
    parser.add_argument("--processes", type=int, default=1, help="processes on each machine")
    parser.add_argument("job", help="the module of training.jobs")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own options")
    asked = parser.parse_args(arguments)
    if asked.job not in SHARING:
        print(f"{asked.job} shares no work between processes; {', '.join(SHARING)} does", file=sys.stderr)
        return ExitCode.BAD_CONFIGURATION
    if asked.nodes > 1 and not asked.first_node:
        parser.error("--nodes needs --first-node")
    where = ["--standalone"]
    if asked.nodes > 1:
        where = [f"--node-rank={asked.node}", f"--master-addr={asked.first_node}", f"--master-port={asked.port}"]
    torchrun = [f"--nnodes={asked.nodes}", f"--nproc-per-node={asked.processes}", *where]
    try:
        run(parse_args([*torchrun, "-m", f"training.jobs.{asked.job}", *asked.options]))
    except ChildFailedError as error:
        return told_by(failure.exitcode for failure in error.failures.values())
    except SignalException:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


def told_by(codes: Iterable[int]) -> int:
    """The exit code of all, from those of each process; one below 0 is a signal's."""
    found = {128 - code if code < 0 else code for code in codes}
    return next((int(code) for code in TELLING if code in found), int(ExitCode.FAILED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
