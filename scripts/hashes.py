#!/usr/bin/env python3
"""Hashes of all that the shipped presets write: equal tables before and after a change mean equal files, bit by bit.

    python scripts/hashes.py > before.csv                     (several minutes)
    python scripts/hashes.py --check before.csv               exits with 1 where something differs, and says what

Renders every shipped preset that needs no download, with dry stems, of every song: whole and as an excerpt of five
seconds, in stereo and folded to mono. Songs are `mixture.*` in the folders of --data, or the audio files in it.
The table is CSV, or Markdown with --markdown: a row for each file that is written, with its SHA-256.

render.json has a row for each of its keys, as `render.json:stems`. Left out is what differs from one run to the next:
`seconds`, `machine`, `versions` and `checksum`, `path` in `input`, `from_cache` in `separation`, and `modified_ns` of
each of the `files`.

The table is of these songs, this machine and these versions of the libraries alone (networks sum in another order on
another number of threads), so a baseline is made anew beside the change and not committed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

DATA = Path(os.environ.get("GBSEP_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "jams"
COLUMNS = ("song", "channels", "part", "preset", "file", "sha256")
PARTS: dict[str, dict[str, float]] = {"whole": {}, "excerpt": {"start_s": 3.0, "duration_s": 5.0}}
RECORD = "render.json"
VOLATILE = ("seconds", "machine", "versions", "checksum")
"""Keys of render.json that differ from one run to the next."""

Table = dict[tuple[str, ...], str]
"""Hashes by song, channels, part, preset and file."""


def songs(data: Path) -> list[tuple[str, Path]]:
    """Songs by name: the mixtures in the folders of `data`, or the files in it where there are none."""
    mixtures = [(path.parent.name, path) for path in sorted(data.glob("*/mixture.*"))]
    suffixes = {f".{name.lower()}" for name in soundfile.available_formats()}
    return mixtures or [(path.name, path) for path in sorted(data.iterdir()) if path.suffix.lower() in suffixes]


def folded(path: Path, to: Path) -> Path:
    """A file of the mean of both channels."""
    samples, sample_rate = soundfile.read(path, dtype="float64", always_2d=True)
    # 24 bits hold the mean of two channels of 16 or fewer.
    soundfile.write(to, samples.mean(axis=1), sample_rate, subtype="PCM_24", format="FLAC")
    return to


def stable(document: dict[str, Any]) -> dict[str, Any]:
    """A render.json without what differs from one run to the next."""
    kept = {key: value for key, value in document.items() if key not in VOLATILE}
    kept["input"] = {key: value for key, value in kept["input"].items() if key != "path"}
    kept["separation"] = {key: value for key, value in kept["separation"].items() if key != "from_cache"}
    kept["files"] = {
        name: {key: value for key, value in stamp.items() if key != "modified_ns"}
        for name, stamp in kept["files"].items()
    }
    return kept


def hashes(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and hash of each file in a render's folder, and of each part of its render.json."""
    for path in sorted(folder.iterdir()):
        if path.name != RECORD:
            yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()
    for key, value in stable(json.loads((folder / RECORD).read_text(encoding="utf-8"))).items():
        yield f"{RECORD}:{key}", hashlib.sha256(json.dumps(value).encode()).hexdigest()


def rendered(data: Path, presets: tuple[str, ...]) -> Table:
    """The table of all songs; presets without their weights are left out."""
    import gbsep
    from gbsep.errors import WeightsMissing
    from gbsep.preset.names import preset_names

    table: Table = {}
    missing: set[str] = set()
    for song, path in songs(data):
        with tempfile.TemporaryDirectory(prefix="gbsep-hashes-") as scratch:
            place = Path(scratch)
            os.environ["GBSEP_CACHE"] = str(place / "cache")
            mono = folded(path, place / f"{path.stem}.flac")
            for channels, file in (("stereo", path), ("mono", mono)):
                print(f"{song}, {channels}", file=sys.stderr, flush=True)
                for part, excerpt in PARTS.items():
                    for preset in [name for name in presets or preset_names() if name not in missing]:
                        out = place / f"{channels}-{part}"
                        try:
                            outcome = gbsep.render(file, preset, out, dry_stems=True, download=False, **excerpt)
                        except WeightsMissing:
                            missing.add(preset)
                            continue
                        table |= {(song, channels, part, preset, name): told for name, told in hashes(outcome.folder)}
    print(f"left out, as they need a download: {', '.join(sorted(missing)) or 'none'}", file=sys.stderr)
    return table


def differences(before: Table, after: Table) -> list[str]:
    """One line for each row that is not the same in both tables."""
    lines = []
    for row in sorted(before.keys() | after.keys()):
        if before.get(row) != after.get(row):
            what = "only before" if row not in after else "only now" if row not in before else "differs"
            lines.append(f"{what}: {', '.join(row)}")
    return lines


def read_table(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(row[name] for name in COLUMNS[:-1]): row[COLUMNS[-1]] for row in csv.DictReader(file)}


def write_table(table: Table, markdown: bool) -> None:
    rows = [COLUMNS, *((*row, told) for row, told in sorted(table.items()))]
    if not markdown:
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
        return
    rows.insert(1, ("---",) * len(COLUMNS))
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), default=DATA)
@click.option("--preset", "presets", multiple=True, help="Only this one; may be given again.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--check", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A table to compare with.")
def main(data: Path, presets: tuple[str, ...], markdown: bool, check: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="gbsep-hashes-") as home:
        for name in ("CONFIG", "CACHE", "HOME", "STATE", "MODELS"):
            os.environ[f"GBSEP_{name}"] = str(Path(home) / name.lower())
        table = rendered(data, presets)
    if not table:
        sys.exit(f"no songs in {data}")
    if check is None:
        write_table(table, markdown)
        return
    before = {row: told for row, told in read_table(check).items() if not presets or row[3] in presets}
    found = differences(before, table)
    print("\n".join([*found, f"{len(table)} rows, {len(found)} differ from {check}"]))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
