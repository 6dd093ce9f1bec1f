"""A score as MusicXML 4.0: a stave in the bass clef an octave down (guitars: treble), with string and fret of a
bass's notes.

Pitches are written as they sound, which the clef's octave says.
"""

from __future__ import annotations

import io
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ..version import __version__
from .line import NAMES
from .score import BAR, TICKS, VALUES, Score, Sign

TYPES = {1: "whole", 2: "half", 4: "quarter", 8: "eighth", 16: "16th"}
LINES = 5
"""Of the stave. The highest string is its topmost line, and where there are more strings none is named: readers count
strings from there, and take a pitch from string and fret where both are given."""
DOCTYPE = (
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN"'
    ' "http://www.musicxml.org/dtds/partwise.dtd">'
)


def musicxml_bytes(score: Score, title: str, stem: str = "bass") -> bytes:
    """The file."""
    root = Element("score-partwise", version="4.0")
    SubElement(SubElement(root, "work"), "work-title").text = _legible(title)
    SubElement(SubElement(SubElement(root, "identification"), "encoding"), "software").text = f"gbsep {__version__}"
    part = SubElement(SubElement(root, "part-list"), "score-part", id="P1")
    SubElement(part, "part-name").text = _legible(stem)
    measures = SubElement(root, "part", id="P1")
    for number, bar in enumerate(score.bars, 1):
        measure = SubElement(measures, "measure", number=str(number))
        if number == 1:
            _attributes(measure, score, stem)
        for sign in bar:
            _sign(measure, sign, len(score.tuning))
    ElementTree.indent(root)
    made = io.BytesIO()
    made.write(f'<?xml version="1.0" encoding="UTF-8"?>\n{DOCTYPE}\n'.encode())
    ElementTree.ElementTree(root).write(made, encoding="UTF-8", xml_declaration=False)
    return made.getvalue() + b"\n"


def _legible(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _attributes(measure: Element, score: Score, stem: str) -> None:
    attributes = SubElement(measure, "attributes")
    SubElement(attributes, "divisions").text = str(TICKS)
    SubElement(SubElement(attributes, "key"), "fifths").text = "0"
    time = SubElement(attributes, "time")
    SubElement(time, "beats").text, SubElement(time, "beat-type").text = "4", "4"
    clef = SubElement(attributes, "clef")
    sign, line = ("G", "2") if stem.startswith("guitar") else ("F", "4")
    SubElement(clef, "sign").text, SubElement(clef, "line").text = sign, line
    SubElement(clef, "clef-octave-change").text = "-1"
    if len(score.tuning) <= LINES:
        _tuning(SubElement(attributes, "staff-details"), score.tuning)
    direction = SubElement(measure, "direction", placement="above")
    metronome = SubElement(SubElement(direction, "direction-type"), "metronome")
    SubElement(metronome, "beat-unit").text = "quarter"
    SubElement(metronome, "per-minute").text = f"{score.beats.bpm:.2f}".rstrip("0").rstrip(".")
    SubElement(direction, "sound", tempo=f"{score.beats.bpm:.4f}")


def _tuning(details: Element, opened: tuple[int, ...]) -> None:
    for line, pitch in enumerate(opened, LINES + 1 - len(opened)):
        tuning = SubElement(details, "staff-tuning", line=str(line))
        step, alter, octave = _spelled(pitch)
        SubElement(tuning, "tuning-step").text = step
        if alter:
            SubElement(tuning, "tuning-alter").text = "1"
        SubElement(tuning, "tuning-octave").text = str(octave)


def _spelled(pitch: int) -> tuple[str, bool, int]:
    name = NAMES[pitch % 12]
    return name[0], name.endswith("#"), pitch // 12 - 1


def _sign(measure: Element, sign: Sign, strings: int) -> None:
    """A rest, or the notes of a sign; all but the first are in a chord with it."""
    placed = sign.placed or (None,) * len(sign.notes)
    for number, (own, place) in enumerate(zip(sign.notes, placed, strict=True)):
        note = SubElement(measure, "note")
        if number:
            SubElement(note, "chord")
        step, alter, octave = _spelled(own.midi)
        pitch = SubElement(note, "pitch")
        SubElement(pitch, "step").text = step
        if alter:
            SubElement(pitch, "alter").text = "1"
        SubElement(pitch, "octave").text = str(octave)
        SubElement(note, "duration").text = str(sign.length)
        _ties(note, sign, "tie")
        _value(note, sign)
        if own.kind == "dead":
            SubElement(note, "notehead").text = "x"
        notations = SubElement(note, "notations")
        _ties(notations, sign, "tied")
        if place is not None and strings <= LINES:
            technical = SubElement(notations, "technical")
            SubElement(technical, "string").text = str(strings - place.string)
            SubElement(technical, "fret").text = str(place.fret)
    if not sign.notes:
        note = SubElement(measure, "note")
        rest = SubElement(note, "rest")
        SubElement(note, "duration").text = str(sign.length)
        if sign.length == BAR:
            rest.set("measure", "yes")
        _value(note, sign)


def _ties(parent: Element, sign: Sign, name: str) -> None:
    for wanted, kind in ((sign.tied, "stop"), (sign.ties, "start")):
        if wanted:
            SubElement(parent, name, type=kind)


def _value(note: Element, sign: Sign) -> None:
    value, dotted = VALUES[sign.length]
    SubElement(note, "voice").text = "1"
    SubElement(note, "type").text = TYPES[value]
    if dotted:
        SubElement(note, "dot")
    if sign.is_triplet:
        change = SubElement(note, "time-modification")
        SubElement(change, "actual-notes").text, SubElement(change, "normal-notes").text = "3", "2"
