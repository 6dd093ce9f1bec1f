"""The queue: renders of songs in worker processes, one after the other, the first seconds of a song before the rest.

Conventions: a job goes from waiting over running to done, failed or cancelled. What is waiting or running is in
queue.json in the hidden folder, written whenever it changes: a server that was killed begins there again. A render
appears whole or not at all, so what is done is never done twice and nothing half done is ever shown.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from pydantic import Field, ValidationError

from ..atomic import write_whole
from ..batch.task import Task
from ..batch.worker import Step
from ..errors import GbsepError, SmallFileError, unexpected
from ..preset.model import Preset
from ..rendering import Options, Outcome, folder_name
from ..schema import Lenient
from ..shelf import folder as outputs
from ..store import smallfiles
from .asking import Refusal
from .hand import Hand
from .library import Library, Song
from .presets import Presets

FIRST_S = 20.0
"""So much of a song comes apart first."""

QUEUE = "queue.json"
SHARES = {"separate": (0.0, 0.85), "process": (0.85, 1.0)}
"""Where in a render its stages lie, by experience."""

Make = Callable[[Callable[[float], None]], dict[str, Any]]
"""Makes something in a thread of this process; it tells how far it is, and ends when that raises Stopped."""

MAX_WAITING = 1000
MAX_ENDED = 50


class Stopped(Exception):
    """A job was cancelled."""


class Wish(Lenient):
    """A job as it is kept in queue.json and asked for: which song, by which preset, in which form."""

    song: str = Field(max_length=16)
    preset: str = Field(max_length=100)
    format: str | None = None
    bit_depth: str | None = None
    name: str = "{stem}"


class _Kept(Lenient):
    """queue.json"""

    waiting: tuple[Wish, ...] = Field((), strict=False, max_length=MAX_WAITING)


@dataclass
class Job:
    """One render in the queue. `first`: only the first seconds, so that they can be heard."""

    number: int
    wish: Wish
    first: bool = False
    state: str = "waiting"
    fraction: float = 0.0
    began: float = 0.0
    took_s: float = 0.0
    error: str = ""
    label: str = ""
    stopped: bool = field(default=False, repr=False)
    make: Make | None = field(default=None, repr=False)
    result: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What the page is told; `left_s` is when it will be done, in seconds from now."""
        spent = time.monotonic() - self.began
        going = self.state == "running" and self.fraction > 0.02
        return {
            "number": self.number,
            "song": self.wish.song,
            "preset": self.wish.preset,
            "first": self.first,
            "state": self.state,
            "fraction": round(self.fraction, 3),
            "left_s": round(spent / self.fraction * (1 - self.fraction), 1) if going else None,
            "took_s": round(self.took_s, 2),
            "error": self.error,
            "label": self.label,
            "kind": "render" if self.make is None else "mix",
            "result": self.result,
        }


class Jobs:
    """The queue of a library and the two processes that work on it: one for first seconds, one for all."""

    def __init__(self, library: Library, presets: Presets):
        self.library, self.presets = library, presets
        self._jobs: list[Job] = []
        self._numbers = count(1)
        self._changed = threading.Condition()
        self._ending = False
        self._hands = (Hand(), Hand())
        self._threads = [
            threading.Thread(target=self._work, args=(hand, only_first), daemon=True)
            for hand, only_first in zip(self._hands, (True, False), strict=True)
        ]
        self._threads.append(threading.Thread(target=self._mix, daemon=True))

    def start(self) -> None:
        """Begin to work, with what was left the last time."""
        self.library.forget_first()
        self.library.forget_unsent()
        for wish in self._kept():
            with contextlib.suppress(Refusal, GbsepError):
                self.add(wish)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the work; what is not done stays in queue.json."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for hand in self._hands:
            hand.kill()
        for thread in self._threads:
            if thread.ident:
                thread.join(5.0)
        self.library.forget_first()

    def as_json(self) -> list[dict[str, Any]]:
        with self._changed:
            return [job.as_json() for job in self._jobs]

    def add(self, wish: Wish) -> list[Job]:
        """Put a render into the queue, its first seconds before it. Raises Refusal, or GbsepError for the preset."""
        song, preset = self.library.song(wish.song), self._preset(wish)
        label = folder_name(preset, self._options(wish, preset))
        with self._changed:
            same = [
                job for job in self._jobs if job.wish == wish and not job.make and job.state in ("waiting", "running")
            ]
            if same:
                return same
            if sum(job.state == "waiting" for job in self._jobs) >= MAX_WAITING:
                raise Refusal(429, f"{MAX_WAITING} renders are waiting; let some be done")
            made = [Job(next(self._numbers), wish, label=label)]
            if song.info.seconds > 1.25 * FIRST_S and label not in song.takes:
                made.insert(0, Job(next(self._numbers), wish, first=True, label=label))
            self._jobs += made
            self._keep()
            self._changed.notify_all()
        return made

    def add_mix(self, song: Song, take: str, make: Make) -> Job:
        """Put what is made in this process, a mix, into the queue."""
        with self._changed:
            job = Job(next(self._numbers), Wish(song=song.id, preset=take[:100]), make=make)
            self._jobs.append(job)
            self._changed.notify_all()
        return job

    def cancel_all(self) -> None:
        """End all jobs that wait or are at work."""
        with self._changed:
            for job in self._jobs:
                if job.state in ("waiting", "running"):
                    self.cancel(job.number)

    def cancel(self, number: int) -> None:
        """End a job, and what belongs to it. Raises Refusal when it is not at work or waiting."""
        with self._changed:
            found = [job for job in self._jobs if job.number == number and job.state in ("waiting", "running")]
            if not found:
                raise Refusal(409, "that render is done already")
            wish = found[0].wish
            if found[0].make is not None:
                found[0].stopped = True
                found[0].state = "cancelled"
                return
            for job in self._jobs:
                if job.make is not None or job.wish != wish:
                    continue
                if job.state == "waiting":
                    job.state = "cancelled"
                elif job.state == "running":
                    job.stopped = True
                    self._hands[0 if job.first else 1].kill()
            self._keep()

    def _work(self, hand: Hand, only_first: bool) -> None:
        hand.warm()
        while True:
            with self._changed:
                while not self._ending and (job := self._next(only_first)) is None:
                    self._changed.wait()
                if self._ending or job is None:
                    return
                job.state, job.began = "running", time.monotonic()
            self._carry_out(hand, job)
            with self._changed:
                job.took_s = time.monotonic() - job.began
                if self._ending:
                    return
                self._forget_old()
                self._keep()
                self._changed.notify_all()

    def _mix(self) -> None:
        while True:
            with self._changed:
                while not self._ending and not (
                    found := [job for job in self._jobs if job.make and job.state == "waiting"]
                ):
                    self._changed.wait()
                if self._ending:
                    return
                job = found[0]
                job.state, job.began = "running", time.monotonic()

            def tell(fraction: float, job: Job = job) -> None:
                if job.stopped or self._ending:
                    raise Stopped
                job.fraction = fraction

            try:
                assert job.make
                job.result = job.make(tell)
                job.state, job.fraction = "done", 1.0
            except Stopped:
                job.state = "cancelled"
            except Refusal as error:
                job.state, job.error = "failed", error.reason
            except Exception as error:
                job.state, job.error = "failed", unexpected(error)
            job.took_s = time.monotonic() - job.began

    def _next(self, only_first: bool) -> Job | None:
        """The next job: the first seconds of a song go before all else, and its rest waits for them."""
        waiting = [job for job in self._jobs if job.state == "waiting" and job.first == only_first and not job.make]
        early = [job.wish for job in self._jobs if job.first and job.state in ("waiting", "running")]
        return next((job for job in waiting if job.first or job.wish not in early), None)

    def _carry_out(self, hand: Hand, job: Job) -> None:
        try:
            song, preset = self.library.song(job.wish.song), self._preset(job.wish)
            options = self._options(job.wish, preset)
            if job.first:
                hidden = self.library.hidden / "first"
                options = replace(options, out=hidden, duration_s=FIRST_S, use_cache=False)
            task = Task(song.path, preset, options, song.name)
            outcome = hand.do(task, self._listener(job))
            if outcome is None:
                outputs.recover(options.out / song.name / folder_name(preset, options))
            self._end(job, song, outcome)
        except (Refusal, GbsepError, OSError) as error:
            job.state, job.error = "failed", getattr(error, "reason", "") or str(error)
        except Exception as error:
            job.state, job.error = "failed", unexpected(error)

    def _listener(self, job: Job) -> Callable[[Step], None]:
        def listen(step: Step) -> None:
            low, high = SHARES.get(step.stage, (0.0, 0.0))
            job.fraction = max(job.fraction, low + (high - low) * step.fraction)

        return listen

    def _end(self, job: Job, song: Song, outcome: Outcome | None) -> None:
        if outcome is None:
            job.state = "cancelled" if job.stopped else "waiting" if self._ending else "failed"
            job.error = "" if job.stopped else "the process that rendered it ended; try again"
        elif outcome.status == "failed":
            job.state, job.error = "failed", outcome.error or ""
        else:
            job.state, job.fraction = "done", 1.0
            self.library.refresh(song.id)

    def _preset(self, wish: Wish) -> Preset:
        return self.presets.load(wish.preset, format=wish.format, bit_depth=wish.bit_depth)

    def _options(self, wish: Wish, preset: Preset) -> Options:
        """Stems before their effects are kept where there are effects: the chain editor starts from them.

        Weights are fetched by a button alone.
        """
        return Options(self.library.out, dry_stems=any(preset.chains.values()), name=wish.name, download=False)

    def _forget_old(self) -> None:
        ended = [job for job in self._jobs if job.state not in ("waiting", "running")]
        for job in ended[:-MAX_ENDED]:
            self._jobs.remove(job)

    def _keep(self) -> None:
        whole = [job for job in self._jobs if not job.first and job.make is None]
        waiting = [job.wish.model_dump() for job in whole if job.state in ("waiting", "running")]
        with contextlib.suppress(OSError):
            write_whole(self.library.hidden / QUEUE, json.dumps({"waiting": waiting}))

    def _kept(self) -> tuple[Wish, ...]:
        try:
            return _Kept.model_validate(smallfiles.read_json(self.library.hidden / QUEUE)).waiting
        except (SmallFileError, ValidationError):
            return ()
