#!/usr/bin/env python
"""Throws damaged, forged and made-up input at gbsep; tells what came out but a GbsepError, what hung, what was written.

    python scripts/fuzz.py all --inputs 20000 --seed 1         every kind, its share of the inputs, as a Markdown table
    python scripts/fuzz.py readers --seconds 60 --seed 1       one kind
    python scripts/fuzz.py readers --seed 1 --only 4711        one input again, in this very process

Inputs are numbered: input N of a seed is the same every time, however many processes work. Each process has folders of
its own, and a write, move or removal elsewhere is stopped and counted (`fuzz_guard`); one that does not answer is ended
and counted as a hang, one that ends by itself as a crash. A traceback counts, and so does an answer that cannot be
right. What the input that failed lay in is kept in the folder of --keep. Exit code 1 when anything was found.

A kind is a module beside this one, and a row of KINDS: `prepare(place)` makes what it needs in a folder, and returns
what draws an input from a generator of chance: attempts, each with the words for it.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_guard

from gbsep.errors import GbsepError

KINDS = {
    "readers": 5500, "api": 3500, "presets": 3200, "manifests": 2300, "records": 1000, "files": 2800, "served": 1500,
    "plugins": 200,
}  # fmt: skip
"""What is tried, and the share that each has of the inputs of `all`: the modules fuzz_<kind>.py."""
FAULTS = ("foreign exceptions", "crashes", "hangs", "files outside")

HANG_S, START_S = 30.0, 120.0
"""What an input and getting ready may take; longer where a machine has more to do than processors."""
MOST_BYTES = 12 * 2**30
"""Of address space, for a process: what asks for more gets a MemoryError."""
LARGEST_FILE = 2**31

Attempt = tuple[str, Callable[[], object]]
Draw = Callable[[random.Random], Iterable[Attempt]]
Found = tuple[str, str]
"""One of FAULTS, and what happened."""


@dataclass(frozen=True)
class Fault:
    """What input `number` of a kind did."""

    kind: str
    number: int
    what: str
    told: str


@dataclass(frozen=True)
class Tally:
    """How many inputs of a kind were tried, in how many seconds (also of processors), and what was found."""

    kind: str
    tried: int
    seconds: float
    cpu_s: float
    faults: tuple[Fault, ...]

    def row(self) -> list[str]:
        counts = Counter(fault.what for fault in self.faults)
        return [
            self.kind,
            f"{self.tried:,}",
            *(str(counts[what]) for what in FAULTS),
            f"{self.cpu_s:.0f}",
            f"{self.seconds:.0f}",
        ]


def try_input(kind: str, draw: Draw, seed: int, number: int) -> tuple[list[Found], bool]:
    """What an input did that it may not, and whether all that was attempted with it was refused."""
    found: list[Found] = []
    taken = False
    attempts = iter(draw(random.Random(f"{kind} {seed} {number}")))
    while True:
        told = "what comes after the attempts"
        try:
            told, call = next(attempts)
            call()
            taken = True
        except StopIteration:
            break
        except GbsepError as error:
            if "\n" in str(error):
                found.append(("foreign exceptions", f"{told}\nseveral lines: {error}"))
        except (Exception, SystemExit):
            found.append(("foreign exceptions", f"{told}\n{traceback.format_exc()}"))
        found += [("files outside", f"{told}\n{touched}") for touched in fuzz_guard.touched()]
    return found, not taken


def here(kind: str, seed: int, numbers: Iterable[int], place: Path) -> tuple[list[Fault], int]:
    """Some inputs, in this process and in a folder that is there: what failed, and how many were refused."""
    draw = importlib.import_module(f"fuzz_{kind}").prepare(place)
    faults, refused = [], 0
    for number in numbers:
        found, is_refused = try_input(kind, draw, seed, number)
        faults += [Fault(kind, number, what, told) for what, told in found]
        refused += is_refused
    return faults, refused


# Processes


def _settle(place: Path) -> None:
    """Give this process no folders but those below `place`, and bounds on what it takes."""
    for name in ("home", "tmp", "work"):
        (place / name).mkdir(parents=True)
    for name in ("CONFIG", "CACHE", "HOME", "STATE", "MODELS", "PLUGIN_PATH"):
        os.environ[f"GBSEP_{name}"] = str(place / "home" / name.lower())
    os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
    tempfile.tempdir = None
    os.chdir(place / "work")
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    try:
        import resource
    except ImportError:  # Windows has no such bounds
        pass
    else:
        for bound, most in ((resource.RLIMIT_AS, MOST_BYTES), (resource.RLIMIT_FSIZE, LARGEST_FILE)):
            hard = resource.getrlimit(bound)[1]
            resource.setrlimit(bound, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _work(kind: str, place: Path, seed: int, pipe: Connection) -> None:
    """Try the inputs whose numbers come; answer each with what was found. The first answer says that all is ready."""
    faulthandler.enable(open(place.with_suffix(".crash"), "w"))  # noqa: SIM115 - as long as the process
    _settle(place)
    module = importlib.import_module(f"fuzz_{kind}")
    fuzz_guard.watch(place)
    draw = module.prepare(place / "work")
    pipe.send(([("files outside", touched) for touched in fuzz_guard.touched()], time.process_time()))
    while (number := pipe.recv()) is not None:
        pipe.send((try_input(kind, draw, seed, number)[0], time.process_time()))


class _Worker:
    """A process, the input that it has in hand (-1: it gets ready, None: nothing), and since when."""

    def __init__(self, kind: str, folder: Path, seed: int):
        self.place = Path(tempfile.mkdtemp(dir=folder, suffix=".place")).resolve()
        (self.place / "beside").write_text("precious\n")
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(kind, self.place / "in", seed, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = -1
        self.since, self.cpu_s = time.monotonic(), 0.0

    def give(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def answer(self) -> tuple[list[Found], bool] | None:
        """What the input in hand did, and whether the process lives on; None as long as it is at it."""
        if self.pipe.poll():
            try:
                found, self.cpu_s = self.pipe.recv()
            except (EOFError, ConnectionError):
                self.process.join()
                crash = (self.place / "in").with_suffix(".crash")
                told = crash.read_text(errors="replace")[:3000] if crash.exists() else ""
                return [("crashes", f"the process ended: {self.process.exitcode}\n{told}")], False
            if sorted(path.name for path in self.place.iterdir()) != ["beside", "in", "in.crash"] or (
                (self.place / "beside").read_text() != "precious\n"
            ):
                return [*found, ("files outside", f"what lies beside {self.place / 'in'} has changed")], False
            return found, True
        load = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) if hasattr(os, "getloadavg") else 1.0
        limit_s = load * (HANG_S if self.number != -1 else START_S)
        if time.monotonic() - self.since > limit_s:
            return [("hangs", f"no answer within {limit_s:.0f} s")], False
        return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        shutil.rmtree(self.place, ignore_errors=True)


def fuzz(kind: str, inputs: int, seed: int, seconds: float = 1e9, jobs: int = 1, keep: Path | None = None) -> Tally:
    """Try inputs of a kind until their number or the time is up."""
    began = time.monotonic()
    numbers: Iterator[int] = iter(range(inputs))
    faults: list[Fault] = []
    tried, cpu_s = 0, 0.0

    def tally() -> Tally:
        spent = cpu_s + sum(worker.cpu_s for worker in workers)
        return Tally(kind, tried, time.monotonic() - began, spent, tuple(faults))

    with tempfile.TemporaryDirectory(prefix="gbsep-fuzz-", ignore_cleanup_errors=True) as name:
        workers = [_Worker(kind, Path(name), seed) for _ in range(jobs)]
        try:
            while any(worker.number is not None for worker in workers):
                for position, worker in enumerate(workers):
                    answer = worker.answer() if worker.number is not None else None
                    if answer is None:
                        continue
                    (found, lives), number = answer, worker.number
                    assert number is not None
                    faults += [Fault(kind, number, what, told) for what, told in found]
                    tried += number >= 0
                    if found and keep:
                        _keep(worker.place / "in" / "work", keep / f"{kind}-{seed}-{number}")
                    worker.number = None
                    if not lives:
                        worker.end()
                        if number < 0:
                            return tally()
                        cpu_s += worker.cpu_s
                        workers[position] = _Worker(kind, Path(name), seed)
                    elif time.monotonic() - began < seconds and (following := next(numbers, None)) is not None:
                        worker.give(following)
                wait([worker.pipe for worker in workers if worker.number is not None], 1.0)
        finally:
            for worker in workers:
                worker.end()
    return tally()


def _keep(folder: Path, where: Path) -> None:
    def special(place: str, names: list[str]) -> list[str]:
        return [name for name in names if not (Path(place, name).is_file() or Path(place, name).is_dir())]

    where.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, where, symlinks=True, ignore=special, dirs_exist_ok=True)


def shares(inputs: int) -> dict[str, int]:
    """How many of so many inputs each kind has: all of them together, and each one at least."""
    whole = sum(KINDS.values())
    shared = {kind: max(1, inputs * share // whole) for kind, share in KINDS.items()}
    first = next(iter(KINDS))
    return shared | {first: max(1, shared[first] + inputs - sum(shared.values()))}


def table(tallies: Iterable[Tally]) -> str:
    """The tallies as a Markdown table, with their sum."""
    tallies = list(tallies)
    everything = Tally(
        "all",
        sum(tally.tried for tally in tallies),
        sum(tally.seconds for tally in tallies),
        sum(tally.cpu_s for tally in tallies),
        tuple(fault for tally in tallies for fault in tally.faults),
    )
    rows = [["kind", "inputs", *FAULTS, "CPU seconds", "seconds"], [":---", *["---:"] * (len(FAULTS) + 3)]]
    rows += [tally.row() for tally in (*tallies, *([everything] if len(tallies) > 1 else []))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["all", *KINDS])
    parser.add_argument("--inputs", type=int, help="how many; 20,000 of all kinds, as many as --seconds allows of one")
    parser.add_argument("--seconds", type=float, help="for each kind; without --inputs 60")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", type=int, metavar="N", help="input N alone, in this process")
    parser.add_argument("--keep", type=Path, help="folder for what the inputs that fail lay in")
    given = parser.parse_args(arguments)
    os.environ |= {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    if given.only is not None:
        return _again(given.kind, given.seed, given.only)
    if given.kind == "all":
        wanted = shares(given.inputs or 20_000)
    else:
        wanted = {given.kind: given.inputs or 10**9}
    seconds = given.seconds or (1e9 if given.inputs or given.kind == "all" else 60.0)
    tallies = []
    for kind, inputs in wanted.items():
        tally = fuzz(kind, inputs, given.seed, seconds, given.jobs, given.keep)
        for fault in tally.faults:
            again = f"fuzz.py {kind} --seed {given.seed} --only {fault.number}"
            print(f"--- {kind}, input {fault.number}: {fault.what} ({again})\n{fault.told}", file=sys.stderr)
        tallies.append(tally)
        print(f"{kind}: {tally.tried:,} inputs, {len(tally.faults)} faults", file=sys.stderr, flush=True)
    print(table(tallies))
    return 1 if any(tally.faults for tally in tallies) else 0


def _again(kind: str, seed: int, number: int) -> int:
    place = Path(tempfile.mkdtemp(prefix="gbsep-fuzz-")).resolve()
    _settle(place / "in")
    importlib.import_module(f"fuzz_{kind}")
    fuzz_guard.watch(place / "in")
    faults, refused = here(kind, seed, [number], place / "in" / "work")
    for fault in faults:
        print(f"--- {fault.what}\n{fault.told}")
    print(f"{len(faults)} faults; {'refused' if refused else 'taken'}; it lay in {place}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
