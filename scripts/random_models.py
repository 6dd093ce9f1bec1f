#!/usr/bin/env python3
"""Write randomly initialised Demucs networks in the published formats: for tests and benchmarks without downloads.

    scripts/random_models.py DIR htdemucs_6s htdemucs_ft      networks of the published sizes, as legacy packages
    scripts/random_models.py DIR tiny                         a network that does next to nothing, quickly

The folder serves gbsep (`--models DIR`) and the demucs command line (`--repo DIR`) alike.
"""

from __future__ import annotations

import hashlib
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

SOURCES = ["drums", "bass", "other", "vocals"]
_HTDEMUCS = {"channels": 48, "depth": 4, "dconv_mode": 3, "t_layers": 5, "segment": Fraction(39, 5)}
_TINY = {"channels": 2, "depth": 2, "nfft": 2048, "t_layers": 0, "dconv_mode": 0, "segment": Fraction(39, 5)}
_ONE_SOURCE_EACH = [[float(row == column) for column in range(4)] for row in range(4)]

BAGS: dict[str, tuple[dict[str, Any], list[str], list[list[float]] | None]] = {
    "tiny": ({"sources": SOURCES, **_TINY}, ["tiny0000"], None),
    "htdemucs": ({"sources": SOURCES, "bottom_channels": 512, **_HTDEMUCS}, ["955717e8"], None),
    "htdemucs_6s": ({"sources": [*SOURCES, "guitar", "piano"], **_HTDEMUCS}, ["5c90dfd2"], None),
    "htdemucs_ft": (
        {"sources": SOURCES, "bottom_channels": 512, **_HTDEMUCS},
        ["f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"],
        _ONE_SOURCE_EACH,
    ),
}
"""Arguments of the networks, their signatures, weights of the bag."""


def save_hub(network: Any, folder: Path, signature: str) -> Path:
    """Write `<signature>.safetensors` as the Demucs hub does; its path."""
    from safetensors.torch import save_file

    args, kwargs = network._init_args_kwargs
    metadata = {"klass": f"{type(network).__module__}.{type(network).__qualname__}"}
    metadata |= {"args": json.dumps(_encode(list(args))), "kwargs": json.dumps(_encode(kwargs))}
    path = folder / f"{signature}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path, metadata)
    return path


def save_legacy(network: Any, folder: Path, signature: str) -> Path:
    """Write `<signature>-<SHA-256 prefix>.th` in half precision as Demucs does; its path."""
    import torch

    args, kwargs = network._init_args_kwargs
    state = {name: tensor.half() for name, tensor in network.state_dict().items()}
    package = {"klass": type(network), "args": args, "kwargs": kwargs, "state": state, "training_args": {"seed": 42}}
    content = io.BytesIO()
    torch.save(package, content)
    path = folder / f"{signature}-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.th"
    path.write_bytes(content.getvalue())
    return path


def _encode(value: Any) -> Any:
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return [_encode(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_bag(name: str, folder: Path) -> None:
    """Write the bag's yaml and networks, unless the yaml is there: it is written last."""
    import torch
    import yaml
    from demucs.htdemucs import HTDemucs

    arguments, signatures, weights = BAGS[name]
    description = folder / f"{name}.yaml"
    if description.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for seed, signature in enumerate(signatures):
        torch.manual_seed(seed)
        save_legacy(HTDemucs(**arguments), folder, signature)
    description.write_text(yaml.safe_dump({"models": signatures} | ({"weights": weights} if weights else {})))


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("names", nargs=-1, required=True, type=click.Choice(sorted(BAGS)))
def command(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write_bag(name, folder)
        click.echo(folder / f"{name}.yaml")


if __name__ == "__main__":
    command()
