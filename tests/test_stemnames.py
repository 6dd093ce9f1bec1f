"""The tables that go by the names of stems have the names of the one list."""

from __future__ import annotations

import re
from pathlib import Path

import gbsep
from gbsep.models.catalogue import EMBEDDED, MODELS
from gbsep.session.model import COLORS
from gbsep.stemnames import INSTRUMENTS, MIXTURE, RESIDUAL


def test_every_instrument_has_a_colour_in_sessions_and_a_hue_in_reports() -> None:
    assert set(COLORS) == {*INSTRUMENTS, "original", RESIDUAL}
    script = (Path(gbsep.__file__).parent / "report/assets/spectrogram.mjs").read_text(encoding="utf-8")
    hues = re.findall(r"const HUES = {(.*?)}", script)[0]
    assert set(re.findall(r"(\w+):", hues)) == {*INSTRUMENTS, MIXTURE, RESIDUAL}


def test_published_models_give_stems_that_have_names() -> None:
    for model in (EMBEDDED, *MODELS.values()):
        assert set(model.stems) <= set(INSTRUMENTS), model.name
