"""The figures of a stem that reports and the command line show: labels, units, meanings. This module loads nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A figure: its unit, what it says, and which end of it is the better one ("higher" or "lower"), if any."""

    label: str
    unit: str
    meaning: str
    better: str = ""

    @property
    def heading(self) -> str:
        """The label at the head of a column in a terminal: small letters, but for abbreviations such as SDR."""
        return self.label if self.label[1:2].isupper() else self.label.lower()


SCORES = {
    "sdr": Column("SDR", "dB", "Signal to distortion against the true stem, the whole track", "higher"),
    "sdr_bsseval_v4": Column("BSS v4", "dB", "BSS Eval v4: the median SDR of its seconds", "higher"),
    "si_sdr": Column("SI-SDR", "dB", "SDR at the gain that suits best: the level does not count", "higher"),
    "bleed_db": Column("Bleed", "dB", "The other instruments in this stem, against its own", "lower"),
}
"""The fields of `evaluate.Score` that are numbers: they need the true stems."""

COLUMNS = {
    **SCORES,
    "note_f1": Column("Notes", "%", "F1 of the bass's notes as heard in the stem, against the true ones", "higher"),
    "findings": Column("Findings", "", "Places where the diagnosis found something", "lower"),
    "loudness_lufs": Column("Loudness", "LUFS", "Integrated loudness (BS.1770) of the stem as written"),
    "peak_dbfs": Column("Peak", "dBFS", "Highest sample of the stem as written"),
    "restored_gain_db": Column("Restored", "dB", "Gain that brought back the level the separator lost"),
}
"""All figures by their names, in the order in which they are shown."""
