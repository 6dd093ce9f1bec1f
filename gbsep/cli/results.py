"""What renders came to, in words: a table for one song, a line for each of many, and the sum of it all."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import complain, figure, loudness, print_json, print_table, say, typed

if TYPE_CHECKING:
    from ..rendering import Outcome
    from ..shelf.record import FindingRow

MANY = 20
"""More outcomes of one song than this get a row each in the table, not one for each stem."""
TOLD = 3
"""Findings of a stem, and songs of a finding, that are told by their names."""


def print_outcomes(outcomes: Sequence[Outcome], as_json: bool, quiet: bool = False, paths: bool = False) -> None:
    """Results on stdout: a table of one song, or one JSON object per line. Warnings and errors on stderr."""
    for outcome in outcomes if as_json else ():
        print_json(outcome.as_json())
    if not quiet:
        _tell_alike(((warning, one.input) for one in outcomes for warning in one.warnings), "warning: ")
    for outcome in outcomes:
        if outcome.traceback and click.get_current_context().obj["debug"]:
            click.echo(outcome.traceback, err=True)
    about: dict[str, list[Path | str]] = {}
    for outcome in outcomes:
        if outcome.error and outcome.input not in about.setdefault(outcome.error, []):
            about[outcome.error].append(outcome.input)
    for error, inputs in about.items():
        complain(error + (f" (the same with {len(inputs) - 1} more)" if len(inputs) > 1 else ""), inputs[0])
    done = [outcome for outcome in outcomes if outcome.folder]
    if as_json or quiet or not done:
        return
    if len(songs_of(outcomes)) == 1:
        _print_song(outcomes)
    if paths or len(done) == 1:
        for folder in dict.fromkeys(str(outcome.folder) for outcome in done):
            say(folder)


def songs_of(outcomes: Iterable[Outcome]) -> list[str]:
    """The songs that outcomes are of, in their order."""
    return list(dict.fromkeys(map(_song, outcomes)))


def _tell_alike(told: Iterable[tuple[str, Path | str]], before: str = "", err: bool = True) -> None:
    """Lines on stderr, or stdout; what is the same of several inputs is said once."""
    about: dict[str, dict[Path | str, None]] = {}
    for text, source in told:
        about.setdefault(text, {})[source] = None
    for text, sources in about.items():
        more = f" (the same with {len(sources) - 1} more)" if len(sources) > 1 else ""
        say(f"{next(iter(sources))}: {before}{text}{more}", err=err)


def _print_song(outcomes: Sequence[Outcome]) -> None:
    """The table of a song, and what there is to say beside it."""
    from ..rendering.remarks import SILENT_RESIDUAL

    if len(outcomes) <= MANY:
        rows = [row for outcome in outcomes for row in _rows(outcome)]
        restored = any(row[4] not in ("", "+0.0 dB") for row in rows)
        header = ("track", "preset", "", "stem", "restored", "loudness", "peak", "found", "seconds")
        columns = [place for place, name in enumerate(header) if restored or name != "restored"]
        print_table([header[place] for place in columns], [[row[place] for place in columns] for row in rows])
    else:
        shown = [
            (_song(one), one.preset, one.status, one.reason or _fault(one), _found(one.findings), _seconds(one))
            for one in outcomes
        ]
        print_table(("track", "preset", "", "", "found", "seconds"), shown)
    _tell_alike(((note, one.input) for one in outcomes for note in one.notes if note != SILENT_RESIDUAL), err=False)
    if any(outcome.findings for outcome in outcomes):
        folder = next(outcome.folder for outcome in outcomes if outcome.findings)
        say(f"gbsep diagnose {typed(folder)} says more of what was found")


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    from ..rendering.remarks import SILENT_RESIDUAL

    head, seconds = (_song(outcome), outcome.preset, outcome.status), _seconds(outcome)
    for name, stem in outcome.levels.items():
        after = stem.after
        gain = f"{stem.restored_gain_db:+.1f} dB"
        found = _found(finding for finding in outcome.findings if finding.stem == name) or "-"
        yield (*head, name, gain, loudness(after), figure(after.peak_dbfs, "dBFS"), found, seconds)
        head, seconds = ("", "", ""), ""
    if not outcome.levels:
        yield (*head, outcome.reason or _fault(outcome), "", "", "", _found(outcome.findings), "")
        return
    left = _found(finding for finding in outcome.findings if finding.stem not in outcome.levels)
    if SILENT_RESIDUAL in outcome.notes or left:
        silent = "silent, not written" if SILENT_RESIDUAL in outcome.notes else ""
        yield ("", "", "", "residual", "", silent, "", left, "")


def word_of(kind: str) -> str:
    """A kind of finding in words: `level lost`."""
    return kind.replace("_", " ")


def _found(findings: Iterable[FindingRow]) -> str:
    """The findings of a stem in a word each, with the time of the first and how many more there are of it."""
    from ..measure.diagnose import clock

    of_kind: dict[str, list[FindingRow]] = {}
    for finding in sorted(findings, key=lambda one: (one.severity != "error", one.start_s)):
        of_kind.setdefault(finding.kind, []).append(finding)
    told = []
    for kind, alike in list(of_kind.items())[:TOLD]:
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        told.append(f"{word_of(kind)} {clock(alike[0].start_s).partition('.')[0]}{more}")
    return ", ".join(told) + (f", {len(of_kind) - TOLD} other" if len(of_kind) > TOLD else "")


def song_line(outcomes: Sequence[Outcome]) -> str:
    """What became of a song, in a line."""
    told = []
    for one in outcomes:
        how = (
            f"failed: {_fault(one)}" if one.status == "failed" else f"{_seconds(one)} s" if one.seconds else one.status
        )
        told.append(f"{one.preset} {how}")
    found = Counter(word_of(finding.kind) for one in outcomes for finding in one.findings)
    return f"{_song(outcomes[0])}: {', '.join(told)}" + (f"; found {', '.join(found)}" if found else "")


def print_summary(
    outcomes: Sequence[Outcome], left: Sequence[str], seconds: float, place: str, unreviewed: int
) -> None:
    """The sum of a batch in a few lines on stdout. `left` are the songs of renders that were not begun; `place` is
    where the others are."""
    from ..rendering.remarks import SILENT_RESIDUAL

    counts = Counter(outcome.status for outcome in outcomes)
    songs = dict.fromkeys([*songs_of(outcomes), *left])
    told = {"done": counts["ok"], "skipped": counts["skipped"], "failed": counts["failed"], "not done": len(left)}
    words = ", ".join(f"{count} {word}" for word, count in told.items() if count or word == "done")
    say(f"{_count(len(songs), 'song')}, {_count(len(outcomes) + len(left), 'render')}: {words}; {duration(seconds)}")
    where: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for finding in outcome.findings:
            where.setdefault(word_of(finding.kind), {})[_song(outcome)] = None
    if where:
        kinds = sorted(where.items(), key=lambda item: -len(item[1]))
        listed = "; ".join(f"{word} in {_named(list(names), len(songs))}" for word, names in kinds)
        say(f"found: {listed}")
    said: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            said.setdefault(note, {})[_song(outcome)] = None
    for note, names in said.items():
        if note != SILENT_RESIDUAL:
            say(f"{_named(list(names), len(songs))}: {note}")
    if counts["ok"] or counts["skipped"]:
        say(f"in {place}" + (f"; gbsep report {typed(place)} shows all of it" if "://" not in place else ""))
    if unreviewed:
        say(f"{unreviewed} unreviewed; gbsep review {typed(place)} opens {'it' if unreviewed == 1 else 'them'}")


def _named(names: Sequence[str], of: int) -> str:
    if len(names) <= TOLD:
        return ", ".join(names)
    return f"all {of} songs" if len(names) == of else f"{len(names)} songs"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(59.6), duration(600), duration(7260)
    ('60 s', '10 min', '2 h 1 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _song(outcome: Outcome) -> str:
    return outcome.track or str(outcome.input)


def _fault(outcome: Outcome) -> str:
    """The beginning of what went wrong; the whole of it is on stderr."""
    return textwrap.shorten((outcome.error or "").removeprefix(f"{outcome.input}: "), 50, placeholder="...")


def _seconds(outcome: Outcome) -> str:
    return f"{sum(outcome.seconds.values()):.1f}" if outcome.seconds else ""
