"""The weights of backends: each finds its models by the layout that its row in BACKENDS names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..models import find as finding
from ..models.find import Found, Layout, notice
from .backend import BACKENDS, Context


def layouts() -> dict[str, Layout]:
    """The layout of every backend with weights, by name, in the order of BACKENDS."""
    return {name: row.load_layout() for name, row in BACKENDS.items() if row.weights}


def find(
    model: str,
    backend: str,
    models_dir: str | Path | None = None,
    *,
    download: bool = True,
    accept: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Found:
    """The verified weights of a model of `backend`, downloaded if `download` is set and they are not on this machine.

    `accept` trusts files that have changed since gbsep first used them. Raises what `models.find.find` raises.
    """
    return finding.find(model, backend, layouts(), models_dir, download=download, accept=accept, progress=progress)


def own_models(models_dir: str | Path | None = None) -> dict[str, str]:
    """The user's own models in `models_dir` (or GBSEP_MODELS) and in gbsep's folder: {name: backend}, unverified."""
    return finding.own_models(layouts(), models_dir)


def find_for(context: Context, model: str, backend: str) -> Found:
    """The weights of a model for a render; warns of the licence the first time the model is used on this machine."""
    found = find(model, backend, context.models, download=context.download, progress=context.progress)
    licence = notice(found)
    if licence:
        context.warn(licence)
    return found
