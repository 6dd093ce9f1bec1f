"""`gbsep models`: weights of separation models."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BackendError, GbsepError, WeightsMissing, nearest
from .common import debug_option, print_json, print_table, progress_bar, say
from .completion import complete_models
from .helping import group

if TYPE_CHECKING:
    from ..models.find import Found


@group()
def models() -> None:
    """Weights of separation models: list, get and check them.

    Weights are looked for in --models DIR or GBSEP_MODELS, in gbsep's own folder,
    and in the Hugging Face cache.

    \b
    gbsep models list
    gbsep models get htdemucs_6s

    \b
    GBSEP_MODELS  folder searched first
    GBSEP_HOME    where gbsep's own folder of weights is (and what was trained)
    GBSEP_STATE   where the hashes of weights are recorded
    """


models_option = click.option(
    "--models", "folder", type=click.Path(path_type=Path), envvar="GBSEP_MODELS", help="Folder searched first."
)


@models.command("list")
@models_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each model on stdout.")
@debug_option
def list_models(folder: Path | None, as_json: bool) -> None:
    """Every model: stems, size, licence, and whether its weights are here.

    \b
    gbsep models list
    """
    from ..models.catalogue import EMBEDDED, MODELS, OWN_LICENCE, card
    from ..separation.backend import backend_named, parse_settings
    from ..separation.weights import own_models

    known = (EMBEDDED, *MODELS.values())
    rows = [
        (model.name, model.backend, ", ".join(model.stems), f"{model.size_mb} MB", _place(model.name, folder))
        for model in known
    ]
    own = own_models(folder)
    for name, backend in own.items():
        stems = size = ""
        try:
            found = _weights(name, folder).files
            place, size = str(found[0].parent), f"{sum(path.stat().st_size for path in found) / 1e6:.0f} MB"
            stems = ", ".join(
                backend_named(backend).load().stem_names(parse_settings(backend, {"model": name}), folder)
            )
        except GbsepError as error:
            place = _few_words(error)
        rows.append((name, backend, stems, size, place))
    header = ("model", "backend", "stems", "size", "weights")
    if as_json:
        licences = {model.name: model.licence for model in known} | dict.fromkeys(own, OWN_LICENCE)
        for row in rows:
            listed = {"stems": row[2].split(", ") if row[2] else [], "licence": licences[row[0]]}
            print_json({**dict(zip(header, row, strict=True)), **listed})
        return
    print_table(header, rows)
    for model in known:
        click.echo(f"{model.name}: {model.licence}; {model.limits}")
        if model is EMBEDDED:
            click.echo("\n".join(f"  {line}" for line in _quality(card())))
    for name in own:
        say(f"{name}: {OWN_LICENCE}")


def _quality(card: dict[str, Any]) -> Iterator[str]:
    """A card in lines: how good the model is where it had not heard a song's instruments, what it learned from."""
    held_out = card["held_out"]
    for row in held_out["quality"]:
        if row["song"] == "median":
            figures = f"bass {row['bass_sdr_db']:.1f} dB, guitar {row['guitar_sdr_db']:.1f} dB"
            yield f"median SDR, {row['fold']}: {figures}, of a training without {', '.join(held_out['without'])}"
    yield "learned from:"
    yield from (line for line in card["credits"] if line and not line.startswith("#"))


def _place(name: str, folder: Path | None) -> str:
    """Where the weights of a model are, or in few words why they cannot be used."""
    try:
        return str(_weights(name, folder).files[0].parent)
    except WeightsMissing:
        return "not here"
    except GbsepError as error:
        return _few_words(error)


def _few_words(error: GbsepError) -> str:
    """The file's name and what is wrong with it; `gbsep models verify` says more."""
    return re.split(r": | \(SHA", str(error), maxsplit=1)[0].rpartition(os.sep)[2]


@models.command()
@click.argument("names", metavar="MODEL...", nargs=-1, required=True, shell_complete=complete_models)
@debug_option
def get(names: tuple[str, ...]) -> None:
    """Download weights; a broken download goes on where it stopped.

    \b
    gbsep models get htdemucs_6s
    """
    from ..models.catalogue import next_step, row
    from ..models.fetch import fetch

    for model in [row(name) for name in names]:
        click.echo(f"{model.name}: {model.licence}; {model.limits}", err=True)
        with progress_bar(model.name) as progress:
            try:
                paths = fetch(model.name, partial(progress, "download"))
            except OSError as error:
                reason = f"Downloading failed ({error}). {next_step(model)}"
                raise WeightsMissing(model.name, [model.url], reason) from None
        for path in paths:
            say(str(path))


@models.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its YAML, if elsewhere.")
@click.option("--name", help="What to call it; by default what the file is called, or its published name.")
@debug_option
def add_model(file: Path, config: Path | None, name: str | None) -> None:
    """Bring a checkpoint (.ckpt with its .yaml) into gbsep's own folder, if gbsep can run it.

    \b
    gbsep models add BS-Rofo-SW-Fixed.ckpt --name sw
    """
    from ..separation.msst.add import add

    try:
        added = add(file, config, name)
    except OSError as error:
        raise BackendError(f"{file} cannot be copied: {error.strerror or error}") from None
    for note in added.notes:
        click.echo(note, err=True)
    say(f"{added.name}: {', '.join(added.stems)}; use it with --set {shlex.quote(f'separate.model={added.name}')}")


@models.command("verify")
@click.argument("names", metavar="MODEL...", nargs=-1, required=True, shell_complete=complete_models)
@models_option
@click.option("--accept", is_flag=True, help="Trust files that have changed since they were first used.")
@debug_option
def verify_models(names: tuple[str, ...], folder: Path | None, accept: bool) -> None:
    """Check weights against the hashes that are known of them.

    Those are in the names of published files, and recorded at the first use of
    others.

    \b
    gbsep models verify htdemucs_6s
    """
    for name in names:
        found = _weights(name, folder, accept)
        for path, sha256 in zip(found.files, found.sha256, strict=True):
            say(f"{sha256}  {path}")


@models.command("path")
@click.argument("name", metavar="MODEL", shell_complete=complete_models)
@models_option
@debug_option
def path_of_model(name: str, folder: Path | None) -> None:
    """Print where a model's weights are.

    \b
    gbsep models path htdemucs_6s
    """
    for path in _weights(name, folder).files:
        say(str(path))


def _weights(name: str, folder: Path | None, accept: bool = False) -> Found:
    """The weights of a published model or of one's own, as they are on this machine."""
    from ..models.catalogue import MODELS, OWN_NEXT_STEP, published
    from ..separation.weights import find, layouts

    looked_in: list[str] = []
    known = published(name)
    for backend in [known.backend] if known else layouts():
        try:
            return find(name, backend, folder, download=False, accept=accept)
        except WeightsMissing as error:
            if known:
                raise
            looked_in += error.looked_in
    reason = f"It is no published model{nearest(name, MODELS)}. {OWN_NEXT_STEP}"
    raise WeightsMissing(name, looked_in, reason)
