"""`gbsep notes`: the line that a stem plays, written down."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..errors import GbsepError, OutputError, ParameterError, StemMissing
from ..stemnames import GUITAR, NUMBERED_GUITAR
from .common import debug_option, print_json, progress_bar, say
from .helping import command

if TYPE_CHECKING:
    from ..audio import Reader
    from ..notes.files import Sheet
    from ..notes.line import Line

BLEED_DB = -30.0
"""A stem that a song leaves this far below itself is taken for what others left there: nobody plays it."""


@dataclass(frozen=True)
class Heard:
    """A line, where it is from, and the sound it was heard in or belongs to, where there is one."""

    line: Line
    source: Path
    sound: Reader | None = None


@dataclass(frozen=True)
class Wanted:
    """What the user gave: a source, what it is taken for, and whose notes are wanted of it; `afresh` takes none that a
    folder keeps."""

    source: Path
    stem: str
    taken_as: str
    preset: str
    anyway: bool
    afresh: bool = False


@command(short_help="Write down the notes that a bass plays.")
@click.argument("source", metavar="STEM|SONG|FOLDER|NOTES", type=click.Path(path_type=Path))
@click.option("--stem", default="bass", show_default="bass, or what guitar1.wav is called", help="Whose notes.")
@click.option(
    "--as",
    "taken_as",
    type=click.Choice(["auto", "stem", "song"]),
    default="auto",
    show_default=True,
    help="What a file is; auto goes by its name.",
)
@click.option("--preset", "-p", metavar="NAME|FILE", default="default", show_default=True, help="Separates a song.")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=".mid, .csv, .musicxml, .gp5 or .txt (tablature).",
)
@click.option(
    "--play",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.wav",
    help="The song on the left, its notes plucked on the right.",
)
@click.option("--keep", is_flag=True, help="Keep the notes in FOLDER, for gbsep session.")
@click.option("--tempo", type=click.FloatRange(20, 400), metavar="BPM", help="The tempo, where it was told wrong.")
@click.option("--tuning", metavar="STRINGS", help='Open strings: "D1 A1 D2 G2", "drop D", -2.')
@click.option("--strings", type=click.IntRange(4, 7), help="Number of strings.")
@click.option("--anyway", is_flag=True, help="Notes of a bass even where it sounds like a guitar.")
@click.option("--overwrite", is_flag=True, help="Replace files of other notes, corrected ones too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@debug_option
def notes(
    source: Path,
    stem: str,
    taken_as: str,
    preset: str,
    out: Path | None,
    play: Path | None,
    keep: bool,
    anyway: bool,
    overwrite: bool,
    as_json: bool,
    **known: Any,
) -> int:
    """Write down the notes of a stem: onset, end, pitch, and how sure that is.

    STEM is an audio file with the stem's name in its own, such as bass.wav; any
    other file is a SONG and is separated first. FOLDER is a render, or any folder
    of stems; the notes that it keeps count, and --keep --overwrite hears them anew.
    NOTES is a .csv or .mid made here, perhaps corrected by hand, and is taken as it
    stands. Without --out the tablature is shown. A file that holds other notes is
    replaced with --overwrite alone.

    \b
    gbsep notes bass.wav                          tablature in the terminal
    gbsep notes song.wav -o song.mid --play check.wav
    gbsep notes gbsep-out/song/default -o bass.gp5 --tuning "drop D"
    gbsep notes bass.wav -o bass.csv              correct it by hand, then
    gbsep notes bass.csv -o bass.musicxml --tempo 96
    """
    _check_outs(source if keep else None, out, play, overwrite)
    from ..notes import files
    from ..notes.tab import tab_bytes

    stem = _named(source, stem)
    with (
        progress_bar(source.name) as progress,
        _heard(Wanted(source, stem, taken_as, preset, anyway, keep and overwrite), progress) as heard,
    ):
        sheet = _sheet(heard, stem, **known)
        written = [*_write(sheet, out, overwrite)]
        if keep and _is_kept(heard):
            written.append(heard.source)
        elif keep:
            written += _write(sheet, files.kept_place(source, stem), overwrite)
        if play is not None:
            _play(play, heard)
            written.append(play)
    if as_json:
        print_json(_as_json(sheet, heard.source))
        return 0
    if not written:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        click.echo(tab_bytes(sheet.score(), sheet.title, columns).decode(), nl=False)
    for path in written:
        say(str(path))
    say(_summary(sheet), err=True)
    if _is_kept(heard):
        say(f"as {heard.source} keeps them; --keep --overwrite hears them anew", err=True)
    return 0


def _named(source: Path, stem: str) -> str:
    """The stem that is meant: where none is given, the guitar that a file is called."""
    name, given = source.stem.lower(), click.get_current_context().get_parameter_source("stem")
    is_guitar = name == GUITAR or NUMBERED_GUITAR.fullmatch(name)
    return name if is_guitar and given is ParameterSource.DEFAULT and not os.path.isdir(source) else stem


def _is_kept(heard: Heard) -> bool:
    """Whether the line is the one that a folder keeps."""
    from ..notes import files

    return heard.sound is not None and heard.source.suffix in files.READ


def _check_outs(keeper: Path | None, out: Path | None, play: Path | None, overwrite: bool) -> None:
    """Refuse what cannot be written before anything is heard; `keeper` is what is to keep the notes."""
    from ..notes import files

    if keeper is not None and not os.path.isdir(keeper):
        raise ParameterError("keep", str(keeper), "the notes of a folder of stems: give the folder of a render")
    if out is not None:
        files.check_suffix(out)
    if play is not None and play.suffix.lower() != ".wav":
        raise ParameterError("play", str(play), "a file whose name ends in .wav")
    if play is not None and os.path.lexists(play) and not overwrite:
        raise OutputError(play, "is there already; choose another name, or give --overwrite")


def _sheet(heard: Heard, stem: str, tempo: float | None, strings: int | None, tuning: str | None) -> Sheet:
    from ..notes import files
    from ..notes.tempo import find_beats

    sheet = files.Sheet(heard.line, stem, heard.source.stem, find_beats(heard.line.notes, tempo), strings, tuning)
    if tuning is not None or strings is not None:
        sheet.score()  # so that what is no tuning is told whatever is written
    return sheet


def _write(sheet: Sheet, out: Path | None, overwrite: bool) -> Iterator[Path]:
    from ..notes import files

    if out is not None:
        files.write(out, sheet, overwrite)
        yield out


@contextmanager
def _heard(wanted: Wanted, progress: Any) -> Iterator[Heard]:
    """The line of whatever the source is."""
    from ..io.read import open_reader
    from ..notes import files
    from ..notes.folders import with_stem
    from ..notes.hear import hear

    source, stem, anyway = wanted.source, wanted.stem, wanted.anyway

    def follow(fraction: float) -> None:
        progress("listening", fraction)

    if os.path.isdir(source):
        try:
            found = with_stem(source, stem)
        except StemMissing as error:
            raise OutputError(source, f"{error.reason}: name one with --stem, or one file of a song") from None
        sound, kept = found.open(stem), None if wanted.afresh else files.kept_beside(source, stem)
        if kept is not None:
            yield Heard(files.read(kept, stem), kept, sound)
        else:
            yield Heard(hear(sound, stem, anyway=anyway, progress=follow), found.files[stem][0], sound)
    elif source.suffix.lower() in files.READ:
        yield Heard(files.read(source, stem), source)
    elif wanted.taken_as == "stem" or (wanted.taken_as == "auto" and stem in source.stem.lower()):
        sound = open_reader(source)
        yield Heard(hear(sound, stem, anyway=anyway, progress=follow), source, sound)
    else:
        with _separated(wanted, progress) as sound:
            song = open_reader(source)
            quietest = _rms(song) * 10 ** (BLEED_DB / 20)
            yield Heard(hear(sound, stem, quietest=quietest, anyway=anyway, progress=follow), source, song)


@contextmanager
def _separated(wanted: Wanted, progress: Any) -> Iterator[Reader]:
    """The stem of a song before its effects. Where it was separated before, the cache has it."""
    from ..io.read import open_reader
    from ..preset.load import load_preset
    from ..rendering import Options, plan, run
    from ..shelf.stems import find_stems

    song, stem, preset = wanted.source, wanted.stem, wanted.preset
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gbsep-notes-") as work:
        options = Options(out=Path(work), dry_stems=True)
        outcome = run(plan(song, load_preset(preset), options), progress)
        for warning in outcome.warnings:
            say(f"{song}: warning: {warning}", err=True)
        if outcome.folder is None:
            raise GbsepError(outcome.error or f"{song}: was not separated")
        found = find_stems(outcome.folder, dry=True)
        if stem not in found.files:
            raise ParameterError("stem", stem, f"one that preset {preset} gives: {', '.join(found.files)}")
        yield open_reader(found.files[stem][0])


def _rms(reader: Reader) -> float:
    power = sum(float((block.mean(axis=0, dtype="float64") ** 2).sum()) for block in reader.blocks())
    return math.sqrt(power / max(1, reader.frames))


def _play(path: Path, heard: Heard) -> None:
    from ..io.formats import OutputFormat
    from ..io.write import open_writer
    from ..notes import play

    sound = heard.sound
    if sound is None:
        blocks, rate, channels = play.played(heard.line), play.SAMPLE_RATE, 1
        frames = play.frames_of(heard.line)
    else:
        blocks, rate, channels, frames = play.beside(heard.line, sound), sound.sample_rate, 2, sound.frames
    with open_writer(path, OutputFormat("wav", "16"), rate, channels, frames) as writer:
        for block in blocks:
            writer.write(block)


def _as_json(sheet: Sheet, source: Path) -> dict[str, Any]:
    from ..notes.fingering import fingered, tuning_name
    from ..notes.fingering import tuning_of as tuning_of_line

    line = sheet.line
    tuning = tuning_of_line(line.notes, sheet.stem, sheet.strings, sheet.tuning)
    places = fingered([[note.midi] for note in line.notes], tuning)
    rows = [
        {
            "onset_s": round(note.onset_s, 4),
            "end_s": round(note.end_s, 4),
            "midi": note.midi,
            "strength": round(note.strength, 3),
            "confidence": round(note.confidence, 3),
            "kind": note.kind,
            "string": place and len(tuning) - place.string,
            "fret": place and place.fret,
        }
        for note, (place,) in zip(line.notes, places, strict=True)
    ]
    return {
        "source": str(source),
        "stem": sheet.stem,
        "seconds": round(line.seconds, 4),
        "tuned_cents": round(line.cents, 1),
        "tempo_bpm": sheet.beats and round(sheet.beats.bpm, 3),
        "beat_0_s": sheet.beats and round(sheet.beats.second(0), 4),
        "left_out": line.left_out,
        "tuning": tuning_name(tuning),
        "notes": rows,
    }


def _summary(sheet: Sheet) -> str:
    from ..notes.line import name_of

    line = sheet.line
    if line.left_out:
        return (
            f"no bass plays: {line.left_out} notes were heard and left out, hardly any below E2 as a bass has them; "
            "--stem guitar writes them down, --anyway takes it for a bass"
        )
    if not line.notes:
        return "no notes were heard"
    low, high = (name_of(choose(note.midi for note in line.notes)) for choose in (min, max))
    tempo = f"{sheet.beats.bpm:.1f} bpm" if sheet.beats else "tempo not told (--tempo gives one)"
    unsure = sum(note.confidence < 0.6 for note in line.notes)
    if len(line.notes) == 1:
        return f"1 note, {low}, {tempo}; {'unsure' if unsure else 'sure'}"
    return f"{len(line.notes)} notes, {low} to {high}, {tempo}; {unsure or 'none'} of them unsure"
