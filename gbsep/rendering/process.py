"""The third stage of a render: every signal through its chain, in threads, and into its file.

write(target, signals, sidechains, place, progress) -> Written
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..audio import Block, Reader
from ..effects.apply import run_blocks
from ..effects.nodes import Node
from ..effects.plugin import PluginReport
from ..effects.stream import Run
from ..errors import ParameterError, PluginError, PresetError
from ..io.formats import OutputFormat, largest_sample, may_clip
from ..io.spool import Spool
from ..io.tags import marked
from ..io.write import Writer, open_writer
from ..measure import diagnose, levels, others
from ..separation.compute import threads


@dataclass(frozen=True)
class Target:
    """The files to write, for a whole render or for a chain alone.

    `names` are the names of the files by signal; a signal without one is measured and not written. Each file has
    `frames` frames plus a tail of `tail_s`. `start_s` is the position of the first frame in the song. `broadcast` is
    the Broadcast WAV chunk of the files. `preset` is for messages; warnings in `expected` are not repeated.
    """

    preset: str
    names: Mapping[str, str]
    output: OutputFormat
    sample_rate: int
    channels: int
    frames: int
    tail_s: float
    start_s: float
    tags: Mapping[str, str]
    broadcast: bytes | None
    expected: tuple[str, ...]

    @property
    def tail_frames(self) -> int:
        return round(self.tail_s * self.sample_rate)

    def create(self, name: str, place: Path) -> AbstractContextManager[Writer]:
        """The file of a signal, to be written in the folder `place`."""
        frames = self.frames + self.tail_frames
        path = place / self.names[name]
        return open_writer(
            path, self.output, self.sample_rate, self.channels, frames, marked(self.tags), self.broadcast
        )


@dataclass(frozen=True)
class Signal:
    """A signal to process: its restored samples, the gain in dB that restored it, and its chain."""

    name: str
    restored: Reader
    gain_db: float = 0.0
    chain: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Processed:
    """The levels of a signal as separated and as written, the reports of its plug-ins, warnings."""

    before: levels.Levels
    after: levels.Levels
    plugins: tuple[PluginReport, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """What was written, by the names of the signals; their `after` includes the gain that all files share."""

    signals: Mapping[str, Processed]
    shared_gain_db: float
    warnings: tuple[str, ...]


class _Progress:
    """The progress of all signals together, and whether to stop."""

    def __init__(self, frames: int, report: Callable[[float], None]):
        self.stop = threading.Event()
        self._frames, self._report, self._done = frames, report, 0
        self._lock = threading.Lock()

    def add(self, frames: int) -> None:
        """Count `frames` more as done."""
        with self._lock:
            self._done += frames
            share = self._done / self._frames
        self._report(share)


@dataclass(frozen=True)
class _Work:
    """What the processing of all signals shares; `spools`, by name, hold signals until all peaks are known."""

    target: Target
    sidechains: Mapping[str, Reader]
    place: Path
    progress: _Progress
    spools: Mapping[str, Spool]


def write(
    target: Target,
    signals: Iterable[Signal],
    sidechains: Mapping[str, Reader],
    place: Path,
    progress: Callable[[float], None],
) -> Written:
    """Process every signal, in threads, and write those that have a file into the folder `place`.

    A format that can clip is written in a second step, when all peaks are known.
    Raises what `run_blocks` raises, and AudioFileError for files that cannot be written.
    """
    signals = tuple(signals)
    names = [signal.name for signal in signals if signal.name in target.names]
    counter = _Progress(len(signals) * (target.frames + target.tail_frames), progress)
    with ExitStack() as held, ThreadPoolExecutor(min(len(signals), threads())) as pool:
        # A spool for each signal: in one they would wait for each other.
        shape = target.sample_rate, target.channels, place
        waiting = names if may_clip(target.output) else []
        spools = {name: held.enter_context(Spool([name], *shape)) for name in waiting}
        work = _Work(target, sidechains, place, counter, spools)
        try:
            results = list(pool.map(partial(_process, work), signals))
            processed = {signal.name: result for signal, result in zip(signals, results, strict=True)}
            peaks_dbfs = [processed[name].after.peak_dbfs for name in spools]
            shared_db = levels.shared_gain(peaks_dbfs, largest_sample(target.output)) if spools else 0.0
            list(pool.map(partial(_convert, work, shared_db), spools))
        except BaseException:
            counter.stop.set()
            raise
    warnings = [message for result in results for message in result.warnings]
    if shared_db:
        warnings.append(f"all files are {-shared_db:.2f} dB quieter, so that none clips in {target.output.container}")
        processed = {name: replace(result, after=result.after.raised(shared_db)) for name, result in processed.items()}
    return Written(processed, shared_db, tuple(warnings))


def _process(work: _Work, signal: Signal) -> Processed:
    """One signal through its chain: into its spool, or else its file, or nowhere."""
    if spool := work.spools.get(signal.name):
        return _apply(work, signal, lambda block: spool.write({signal.name: block}))
    if signal.name not in work.target.names:
        return _apply(work, signal, lambda block: None)
    with work.target.create(signal.name, work.place) as file:
        return _apply(work, signal, file.write)


def _apply(work: _Work, signal: Signal, take: Callable[[Block], None]) -> Processed:
    """`take` every block that comes out of a signal's chain, and measure the levels on the way in and out."""
    target, source = work.target, signal.restored
    plugins: dict[str, PluginReport] = {}
    warnings: list[str] = []

    def note(report: PluginReport) -> None:
        plugins[report.where] = report
        if report.bypassed and (message := f"stems.{signal.name}.{report.bypassed}") not in target.expected:
            warnings.append(message)

    before = after = levels.Meter(source.sample_rate, source.channels)
    blocks = _metered(source.blocks(), before)
    if signal.chain or target.tail_frames:
        after = levels.Meter(source.sample_rate, source.channels)
        frames = source.frames + target.tail_frames
        running = Run(source.sample_rate, source.channels, frames, target.start_s, work.sidechains, note, work.place)
        blocks = _metered(run_blocks(blocks, signal.chain, running, target.tail_frames), after)
    with naming(f"{target.preset}: stems.{signal.name}."):
        for block in blocks:
            if work.progress.stop.is_set():
                break
            work.progress.add(block.shape[1])
            take(block)
    unrestored = before.levels().raised(-signal.gain_db)
    return Processed(unrestored, after.levels(), tuple(plugins.values()), tuple(warnings))


def _metered(blocks: Iterable[Block], meter: levels.Meter) -> Iterator[Block]:
    for block in blocks:
        meter.add(block)
        yield block


def _convert(work: _Work, gain_db: float, name: str) -> None:
    """Write the file of a signal from its spool."""
    gain = np.float32(levels.to_amplitude(gain_db))
    with work.target.create(name, work.place) as file:
        for block in work.spools[name].reader(name).blocks():
            file.write(block * gain)


@contextmanager
def listening(mixture: Reader) -> Iterator[Future[float]]:
    """How often a second noise like that of drums begins, found in a thread meanwhile, as by `diagnosing`."""
    with _meanwhile(mixture) as (pool, reader):
        yield pool.submit(others.noises_per_s, reader)


@contextmanager
def diagnosing(
    mixture: Reader, stems: Mapping[str, Reader], gains_db: Mapping[str, float]
) -> Iterator[Future[tuple[diagnose.Finding, ...]]]:
    """Diagnose the unprocessed stems in a thread while the block runs; an error in the block stops it."""
    with _meanwhile(mixture) as (pool, reader):
        yield pool.submit(diagnose.diagnose, reader, stems, gains_db)


@contextmanager
def _meanwhile(mixture: Reader) -> Iterator[tuple[ThreadPoolExecutor, Reader]]:
    """A thread for a measurement, and the mixture for it to read, which ends when an error leaves the block."""
    stop = threading.Event()

    def blocks(block_frames: int) -> Iterator[Block]:
        for block in mixture.blocks(block_frames):
            if stop.is_set():
                return
            yield block

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool, replace(mixture, open_blocks=blocks)
        except BaseException:
            stop.set()
            raise


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Name the preset, and the place in it, in errors of plug-ins and parameters."""
    try:
        yield
    except ParameterError as error:
        raise ParameterError(f"{place}{error.name}", error.value, error.allowed, error.unit) from None
    except PresetError as error:
        raise PresetError(error.path or place.removesuffix(": "), error.json_path, error.reason) from None
    except PluginError as error:
        raise type(error)(f"{place}{error}") from None
