#!/usr/bin/env python3
"""Write randomly initialised networks in the published formats: for tests and benchmarks without downloads.

    scripts/random_models.py DIR htdemucs_6s htdemucs_ft      networks of the published sizes, as legacy packages
    scripts/random_models.py DIR tiny                         a network that does next to nothing, quickly
    scripts/random_models.py DIR BS-Rofo-SW-Fixed             a checkpoint with its YAML, of the published size
    scripts/random_models.py DIR tiny_bs_roformer             a small one

The folder serves gbsep (`--models DIR`), the demucs command line (`--repo DIR`) and audio-separator alike.
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


_SPECTRUM = {"n_fft": 2048, "hop_length": 512, "num_channels": 2, "sample_rate": 44100}
_STEMS_4 = ["bass", "drums", "guitar", "other"]
_BANDS = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
_ROFORMER = {
    "stereo": True, "time_transformer_depth": 1, "freq_transformer_depth": 1, "linear_transformer_depth": 0,
    "dim_freqs_in": 1025, "attn_dropout": 0.1, "ff_dropout": 0.1, "flash_attn": True, "stft_n_fft": 2048,
    "stft_hop_length": 512, "stft_win_length": 2048, "stft_normalized": False, "mask_estimator_depth": 2,
    "multi_stft_resolution_loss_weight": 1.0, "multi_stft_resolutions_window_sizes": (4096, 2048, 1024, 512, 256),
    "multi_stft_hop_size": 147, "multi_stft_normalized": False,
}  # fmt: skip
_SMALL = {**_ROFORMER, "dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "mlp_expansion_factor": 1}


def _configuration(
    architecture: str, model: Any, stems: list[str], chunk_size: int, target: str | None = None, **sections: Any
) -> dict[str, Any]:
    return {
        "model_type": architecture,
        "audio": {**_SPECTRUM, "chunk_size": chunk_size, **sections.pop("audio", {})},
        "model": model,
        "training": {"instruments": stems, "target_instrument": target, **sections.pop("training", {})},
        "inference": {"batch_size": 1, "num_overlap": 2, **sections.pop("inference", {})},
        **sections,
    }


CHECKPOINTS: dict[str, dict[str, Any]] = {
    "BS-Rofo-SW-Fixed": _configuration(
        "bs_roformer",
        {
            **_ROFORMER, "dim": 256, "depth": 12, "num_stems": 6, "freqs_per_bands": _BANDS, "dim_head": 64, "heads": 8,
            "mlp_expansion_factor": 4, "use_torch_checkpoint": False, "skip_connection": False,
        },
        ["bass", "drums", "other", "vocals", "guitar", "piano"], 588800, inference={"dim_t": 1101, "normalize": False},
    ),
    "tiny_bs_roformer": _configuration(
        "bs_roformer", {**_SMALL, "num_stems": 4, "freqs_per_bands": (25,) * 41}, _STEMS_4, 22050,
        inference={"dim_t": 44},
    ),
    "tiny_six_stems": _configuration(
        "bs_roformer", {**_SMALL, "num_stems": 6, "freqs_per_bands": (25,) * 41},
        ["bass", "drums", "other", "vocals", "guitar", "piano"], 22050,
    ),
    "tiny_mel_band_roformer": _configuration(
        "mel_band_roformer", {**_SMALL, "num_stems": 1, "num_bands": 20, "sample_rate": 44100}, ["Guitar", "Other"],
        22050, "Guitar", inference={"normalize": True},
    ),
    "tiny_scnet": _configuration(
        "scnet",
        {"sources": _STEMS_4, "dims": [4, 8, 8], "num_dplayer": 2, "compress": 2, "nfft": 2048, "win_size": 2048,
         "hop_size": 512}, _STEMS_4, 22050,
    ),
    "tiny_mdx23c": _configuration(
        "mdx23c",
        {"act": "gelu", "norm": "InstanceNorm", "num_channels": 8, "growth": 4, "num_scales": 2, "scale": [2, 2],
         "num_blocks_per_scale": 1, "bottleneck_factor": 4, "num_subbands": 4}, _STEMS_4, 512 * 43,
        audio={"dim_f": 1024},
    ),
    "tiny_bandit": _configuration(
        "bandit",
        {"in_channel": 1, "stems": ["speech", "music"], "band_specs": "musical", "n_bands": 8, "n_sqm_modules": 1,
         "emb_dim": 8, "rnn_dim": 8, "mlp_dim": 8}, ["speech", "music"], 22050, audio={"num_channels": 1},
    ),
    "tiny_htdemucs": _configuration(
        "htdemucs", "htdemucs", _STEMS_4, 44100, htdemucs={"channels": 8, "depth": 2, "nfft": 1024, "t_layers": 1,
                                                           "t_heads": 2, "dconv_mode": 1, "bottom_channels": 8},
        training={"samplerate": 44100, "segment": 1, "channels": 2},
    ),
}  # fmt: skip
"""What stands in the YAML of each checkpoint of the Music-Source-Separation-Training family."""


def write_checkpoint(name: str, folder: Path, seed: int = 0, stem: str = "", container: str = "") -> Path:
    """Write the checkpoint `name` as `stem` (its own name without one) with its YAML; the checkpoint's path.

    `container` is the key of a training's state that holds the tensors.
    """
    import torch
    import yaml
    from pymss_core import get_model_from_config

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, configuration = (folder / f"{stem or name}{suffix}" for suffix in (".ckpt", ".yaml"))
    if not checkpoint.is_file():
        plain = json.loads(json.dumps(CHECKPOINTS[name]))  # no list is in it twice, which YAML would write by reference
        if "freqs_per_bands" in plain["model"]:
            plain["model"]["freqs_per_bands"] = tuple(plain["model"]["freqs_per_bands"])
        configuration.write_text(yaml.dump(plain, sort_keys=False))
        torch.manual_seed(seed)
        network, _ = get_model_from_config(CHECKPOINTS[name]["model_type"], configuration)
        state = network.state_dict()
        torch.save({container: state, "epoch": 3} if container else state, checkpoint)
    return checkpoint


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("names", nargs=-1, required=True, type=click.Choice(sorted({**BAGS, **CHECKPOINTS})))
def command(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (write_bag if name in BAGS else write_checkpoint)(name, folder)
        click.echo(folder / f"{name}.yaml")


if __name__ == "__main__":
    command()
