"""Small untrained networks, written in the formats in which the trained ones are published."""

import hashlib
import importlib.util
import io
import itertools
import json
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import save_file

_spec = importlib.util.spec_from_file_location("random_models", Path(__file__).parents[1] / "scripts/random_models.py")
random_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(random_models)

TARGETS = ("vocals", "drums", "bass", "other")
HIDDEN_SIZE, INPUT_BINS, BINS = 16, 1487, 2049


def write_openunmix(folder, name):
    """Open-Unmix: a state dict per target, and separator.json."""
    write_model(folder / name, {target: random_state(seed) for seed, target in enumerate(TARGETS)})


def write_demucs(folder, name, sources=("drums", "bass", "other", "vocals"), seed=0):
    """Hybrid Transformer Demucs on the hub's layout: a list of networks, and each with its class and arguments."""
    from demucs.htdemucs import HTDemucs
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    arguments = {"channels": 8, "t_layers": 1, "t_heads": 2, "bottom_channels": 8, "segment": Fraction(1, 2)}
    network = HTDemucs(list(sources), **arguments)
    signature = f"{seed:08x}"
    as_json = {key: _as_json(value) for key, value in arguments.items()}
    metadata = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": json.dumps([list(sources)]),
        "kwargs": json.dumps(as_json),
    }
    save_file(network.state_dict(), folder / f"{signature}.safetensors", metadata)
    (folder / f"{name}.yaml").write_text(f"models: ['{signature}']\n")


def _as_json(value):
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    return value


def random_state(seed, hidden_size=HIDDEN_SIZE, layers=3, forget_bias=0.0):
    """A state dict in the published format, of numbers of a trained network's size."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=random)

    edge = hidden_size**-0.5
    state = {
        "input_mean": uniform(-1, 0, INPUT_BINS),
        "input_scale": uniform(0.5, 1.5, INPUT_BINS),
        "output_mean": uniform(0.5, 1.5, BINS),
        "output_scale": uniform(0.5, 1.5, BINS),
        "fc1.weight": uniform(-0.02, 0.02, hidden_size, 2 * INPUT_BINS),
        "fc2.weight": uniform(-edge, edge, hidden_size, 2 * hidden_size),
        "fc3.weight": uniform(-edge, edge, 2 * BINS, hidden_size),
        "stft.window": torch.hann_window(4096),
    }
    for name, size in {"bn1": hidden_size, "bn2": hidden_size, "bn3": 2 * BINS}.items():
        state[f"{name}.weight"] = uniform(0.5, 1.5, size)
        state[f"{name}.bias"] = uniform(-0.1, 0.1, size)
        state[f"{name}.running_mean"] = uniform(-0.1, 0.1, size)
        state[f"{name}.running_var"] = uniform(0.5, 1.5, size)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    half = hidden_size // 2
    for layer, end in itertools.product(range(layers), ("", "_reverse")):
        state[f"lstm.weight_ih_l{layer}{end}"] = uniform(-edge, edge, 4 * half, hidden_size)
        state[f"lstm.weight_hh_l{layer}{end}"] = uniform(-edge, edge, 4 * half, half)
        state[f"lstm.bias_ih_l{layer}{end}"] = uniform(-edge, edge, 4 * half)
        state[f"lstm.bias_hh_l{layer}{end}"] = uniform(-edge, edge, 4 * half)
        state[f"lstm.bias_ih_l{layer}{end}"][half : 2 * half] += forget_bias
    return state


def write_model(folder, states, separator=None):
    folder.mkdir(parents=True, exist_ok=True)
    for target, state in states.items():
        content = io.BytesIO()
        torch.save(state, content)
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        (folder / f"{target}-{sha256[:8]}.pth").write_bytes(content.getvalue())
    separator = separator or {"sample_rate": 44100, "nfft": 4096, "nhop": 1024, "nb_channels": 2}
    (folder / "separator.json").write_text(json.dumps(separator))


def small_demucs():
    """A hybrid transformer of the least size that its package can build."""
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    arguments = {"channels": 8, "depth": 3, "nfft": 2048, "t_layers": 1, "t_heads": 2, "segment": Fraction(1, 2)}
    return HTDemucs(sources=random_models.SOURCES, **arguments).eval()


def edited(path, **metadata):
    """Rewrite a safetensors file with other metadata."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        old = file.metadata()
    save_file(tensors, path, old | metadata)
    return path
