"""`gbsep evaluate`, `gbsep diagnose` and `gbsep log`: what stems are worth, with the true ones at hand and without."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import OutputError, StemMissing, printable
from ..measure.figures import SCORES
from .common import debug_option, print_json, print_table, say
from .helping import command

if TYPE_CHECKING:
    from ..measure.diagnose import Finding
    from ..measure.evaluate import Score
    from ..notes.compare import NoteScore

NOTE_SCORES = ("precision", "recall", "f1", "f1_with_offsets", "true", "told")
"""Figures of how well notes are told, in the order of their columns."""


Figures = TypeVar("Figures")


@command(short_help="Measure stems against the true ones.")
@click.argument("folder", metavar="EST", type=click.Path(path_type=Path))
@click.option(
    "--reference", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Folder of true stems."
)
@click.option("--dry", is_flag=True, help="Of renders made with --dry-stems, take the stems before their effects.")
@click.option("--notes", is_flag=True, help="Measure how well the bass's notes are told.")
@click.option("--csv", "as_csv", is_flag=True, help="A CSV table on stdout, a row for each stem of a render.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@debug_option
def evaluate(folder: Path, reference: Path, dry: bool, notes: bool, as_csv: bool, as_json: bool) -> int:
    """Measure the stems in EST against the true stems of the same names in DIR.

    EST is a render, a folder of renders, or any folder of stems. Where DIR holds
    folders called as the songs, each song is measured against its own. The guitar
    of DIR is guitar.*, or the sum of guitar1.*, guitar2.* and so on; two guitars
    are measured against these. In dB: SDR of the track, its median over seconds
    (BSS Eval v4), SDR at the best gain (SI-SDR), and bleed: the lower the better.
    With --notes: how many of the bass's notes are told, by DIR's bass.notes.csv
    or notes.csv, or its sound.

    \b
    gbsep evaluate gbsep-out/song/exp002 --reference stems/
    gbsep evaluate gbsep-out/song --reference stems/     every preset of the song
    gbsep evaluate gbsep-out --reference true/ --csv     all songs; with totals
    gbsep evaluate gbsep-out/song --reference stems/ --notes
    gbsep evaluate other-stems/ --reference stems/ --json
    """
    if notes:
        return _evaluate_notes(folder, reference, dry, as_csv, as_json)
    from ..shelf.measured import evaluate_folder, reference_of

    scores = _of_each(folder, lambda place: evaluate_folder(place, reference_of(reference, place), dry))
    if as_json:
        found = {name: {stem: score.as_json() for stem, score in stems.items()} for name, stems in scores.items()}
        print_json(_alone(found))
        return 0
    if as_csv:
        _print_csv(folder, scores)
        return 0
    print_table(
        ("", "stem", *(column.heading for column in SCORES.values())),
        [*(row for name, stems in scores.items() for row in _rows(name, stems)), *_totals(scores)],
    )
    for name, stems in scores.items():
        for stem, score in stems.items():
            for note in score.notes:
                say(f"{_label(name)}{stem}: {note}")
    return 0


def _evaluate_notes(folder: Path, reference: Path, dry: bool, as_csv: bool, as_json: bool) -> int:
    from ..notes.folders import score_folder
    from ..shelf.measured import reference_of

    scores = _of_each(folder, lambda place: score_folder(place, reference_of(reference, place), dry))
    if as_json:
        print_json(_alone({name: {"bass": score.as_json()} for name, score in scores.items()}))
        return 0
    if as_csv:
        _print_csv(folder, {name: {"bass": score} for name, score in scores.items()}, NOTE_SCORES)
        return 0
    rows = [
        (
            _label(name),
            *(f"{getattr(score, figure):.3f}" for figure in NOTE_SCORES[:4]),
            f"{score.told} of {score.true}",
        )
        for name, score in scores.items()
    ]
    print_table(("", "Precision", "Recall", "F1", "F1 with ends", "Notes"), [*rows, *_note_totals(scores)])
    return 0


@command(short_help="Tell what is wrong with stems, without the true ones.")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--mixture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What the stems were separated from, if not known.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout, and nothing else there.")
@debug_option
def diagnose(folder: Path, mixture: Path | None, as_json: bool) -> int:
    """Tell what is wrong with the stems in FOLDER, without the true ones.

    FOLDER is a render, a folder of renders, or any folder of stems. Told are
    swapped stems, an instrument heard where there is none, lost level, swelling,
    bleeding, thin high notes, low end missing or left behind, a loud residual,
    clipping, offset, silence, NaN: each with its place.

    \b
    gbsep diagnose gbsep-out/song/exp002
    gbsep diagnose gbsep-out                             all renders
    gbsep diagnose other-stems/ --mixture song.wav --json
    """
    from ..shelf.measured import diagnose_folder

    found = {name: diagnose_folder(place, mixture) for name, place in _folders(folder).items()}
    if as_json:
        listed = {name: [finding.as_json() for finding in findings] for name, findings in found.items()}
        print_json(_alone(listed))
        return 0
    for name, findings in found.items():
        _show_findings(name, findings)
    return 0


@command("log", short_help="Write renders into the experiment log, a Markdown file.")
@click.argument("outs", metavar="OUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--log",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The log. [default: experiment-log.md in the first OUT]",
)
@click.option("--language", type=click.Choice(["ko", "en"]), default="en", show_default=True, help="Of what is added.")
@click.option(
    "--reference", type=click.Path(path_type=Path), metavar="DIR", help="Folder of true stems: figures against them."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@debug_option
def log(outs: tuple[Path, ...], path: Path | None, language: str, reference: Path | None, as_json: bool) -> int:
    """Add the renders in OUT to the experiment log, a Markdown file.

    Each gets a row in the summary table and a section with settings, figures,
    diagnoses, notes of the review, spectrograms, previews of one loudness and
    links. What is in the log already stays, also what people wrote.

    \b
    gbsep log gbsep-out
    gbsep log gbsep-out other-out --log notes/log.md --language ko
    """
    from ..report.log import write_log

    path = path or outs[0] / "experiment-log.md"
    numbers, written = write_log(outs, path, language, reference)
    if as_json:
        print_json({"log": str(path), "added": numbers, "files": [str(file) for file in written]})
    else:
        say(f"{path}: {f'Exp {_range(numbers)} added' if numbers else 'nothing new'}")
    return 0


def _range(numbers: Sequence[str]) -> str:
    """Numbers that follow each other, which those of a log do."""
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _folders(folder: Path) -> dict[str, Path]:
    """The renders in a folder by their path in it, or "." and the folder itself."""
    from ..shelf.stems import find_stems, renders_in

    try:
        find_stems(folder)
    except OutputError:
        below = renders_in(folder) if os.path.isdir(folder) else {}
        if not below:
            raise
        return below
    return {".": folder}


def _of_each(folder: Path, measure: Callable[[Path], Figures]) -> dict[str, Figures]:
    """The figures of each render in a folder; a render without the stems that they are of is told, and left out."""
    found: dict[str, Figures] = {}
    faults: dict[str, StemMissing] = {}
    for name, place in _folders(folder).items():
        try:
            found[name] = measure(place)
        except StemMissing as error:
            faults[name] = error
    for fault in faults.values():
        if not found:
            raise fault
        say(f"{fault}; not measured", err=True)
    return found


def _alone(found: Mapping[str, Any]) -> Any:
    """What was found in the one folder that was named, or all by their names."""
    return found["."] if list(found) == ["."] else found


def _label(name: str) -> str:
    return "" if name == "." else f"{name} "


def _rows(name: str, stems: Mapping[str, Score]) -> Iterator[tuple[str, ...]]:
    for stem, score in stems.items():
        figures = (getattr(score, column) for column in SCORES)
        yield (_label(name), stem, *("-" if figure is None else f"{figure:.2f}" for figure in figures))
        name = "."


def _totals(scores: Mapping[str, Mapping[str, Score]]) -> Iterator[tuple[str, ...]]:
    """Rows with the median, and the lower and upper quartile, over the songs of each preset and stem."""
    figures: dict[tuple[str, str], list[Score]] = {}
    for name, stems in scores.items():
        for stem, score in stems.items():
            figures.setdefault((name.rpartition("/")[2], stem), []).append(score)
    for (preset, stem), of_songs in figures.items():
        if len(of_songs) > 1:
            columns = (_spread([getattr(score, column) for score in of_songs]) for column in SCORES)
            yield (f"{len(of_songs)} songs, {preset}", stem, *columns)


def _spread(values: Sequence[float | None], digits: int = 2) -> str:
    """The median, and the quartiles in parentheses."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    lower, upper = quantiles(known, n=4, method="inclusive")[::2] if len(known) > 1 else (known[0], known[0])
    return f"{median(known):.{digits}f} ({lower:.{digits}f} to {upper:.{digits}f})"


def _note_totals(scores: Mapping[str, NoteScore]) -> Iterator[tuple[str, ...]]:
    """Rows with the medians and quartiles over the songs of each preset, and how many notes they have in all."""
    figures: dict[str, list[NoteScore]] = {}
    for name, score in scores.items():
        figures.setdefault(name.rpartition("/")[2], []).append(score)
    for preset, of_songs in figures.items():
        if len(of_songs) > 1:
            columns = (_spread([getattr(score, figure) for score in of_songs], 3) for figure in NOTE_SCORES[:4])
            told, true = (sum(getattr(score, what) for score in of_songs) for what in ("told", "true"))
            yield (f"{len(of_songs)} songs, {preset}", *columns, f"{told} of {true}")


def _print_csv(folder: Path, scores: Mapping[str, Mapping[str, Any]], figures: Sequence[str] = tuple(SCORES)) -> None:
    """A row for each stem of a render; a figure that there is none of is left empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("render", "stem", *figures))
    for name, stems in scores.items():
        for stem, score in stems.items():
            row = (getattr(score, column) for column in figures)
            shown = ("" if value is None else f"{value:.4f}" if isinstance(value, float) else value for value in row)
            table.writerow((printable(folder.name if name == "." else name), stem, *shown))
    click.echo(text.getvalue(), nl=False)


def _show_findings(name: str, findings: Sequence[Finding]) -> None:
    from ..measure.diagnose import clock

    if name != ".":
        say(name)
    if not findings:
        click.echo("nothing found")
    else:
        rows = [(one.severity, clock(one.start_s), clock(one.end_s), one.message) for one in findings]
        print_table(("", "from", "to", "what"), rows)
