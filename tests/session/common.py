"""Projects for DAWs read back by other means than wrote them, as what would be heard."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rpp
import soundfile
from hypothesis import strategies as st

import gbsep
from gbsep.audio import Audio
from gbsep.session.model import Clip
from gbsep.shelf import record

from ..helpers import exit_code

RATE = 44100


SUFFIXES = {"reaper": ".rpp", "dawproject": ".dawproject"}


HOSTILE = '한글 "it\'s" `q` <b>&amp; 🎸'


SEAL = "gbsep-sha256:" + "0" * 64


each_format = pytest.mark.parametrize("format", SUFFIXES)


def preset(name: str = "cross", **bass: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": name,
        "title": "A crossover",
        "separate": {"backend": "crossover", "cutoff_hz": 200.0},
        "stems": {"bass": {"from": ["bass"], **bass}, "guitar": {"from": ["guitar"]}},
    }


COMPRESSED = {"chain": [{"effect": "Compressor", "threshold_db": -30, "ratio": 4}]}


RAISED = {"restore": {"method": "peak", "dbfs": -6}}


def make_song(path: Path, channels: int = 2, rate: int = RATE, seconds: float = 1.0) -> Path:
    rng = np.random.default_rng(len(path.name))
    time_s = np.arange(round(rate * seconds)) / rate
    samples = 0.05 * rng.standard_normal((channels, time_s.size)) + 0.1 * np.sin(2 * np.pi * 80 * time_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    gbsep.write(path, Audio(samples, rate))
    return path


@dataclass
class Heard:
    """A track as a project has it: `path` its folders and name, `silent` by itself or by a folder."""

    path: tuple[str, ...]
    silent: bool
    gain: float
    color: str
    clips: list[tuple[str, float, float]]
    inserts: int


@dataclass
class Project:
    tracks: list[Heard]
    markers: list[tuple[float, str]]
    tempo: float | None
    rate: int | None

    def __getitem__(self, name: str) -> Heard:
        return next(track for track in self.tracks if "/".join(track.path) == name)


def read_project(path: Path) -> Project:
    return read_rpp(path) if path.suffix == ".rpp" else read_dawproject(path)


def read_rpp(path: Path) -> Project:
    root = rpp.loads(path.read_text(encoding="utf-8"))
    tracks: list[Heard] = []
    above: list[tuple[str, bool]] = []
    for element in root.findall("TRACK"):

        def value(tag: str, element: Any = element) -> list[str]:
            return element.find(tag)[1:]

        name, silent = value("NAME")[0], value("MUTESOLO")[0] == "1"
        color = int(value("PEAKCOL")[0])
        assert color >> 24 == 1
        clips = [
            (
                item.find("SOURCE").find("FILE")[1],
                float(item.find("POSITION")[1]),
                float(item.find("LENGTH")[1]),
            )
            for item in element.findall("ITEM")
        ]
        chain = element.find("FXCHAIN")
        tracks.append(
            Heard(
                (*(name for name, _ in above), name),
                silent or any(muted for _, muted in above),
                float(value("VOLPAN")[0]),
                (color & 0xFFFFFF).to_bytes(3, "little").hex(),
                clips,
                len(chain.findall("VST")) if chain else 0,
            )
        )
        opens, closes = map(int, value("ISBUS"))
        assert (opens, closes > 0, closes < 0) in ((0, False, False), (1, True, False), (2, False, True))
        if opens == 1:
            above.append((name, silent))
        del above[len(above) + min(closes, 0) :]
    assert not above, "a folder is left open"
    tempo, rate = root.find("TEMPO"), root.find("SAMPLERATE")
    markers = [(float(line[2]), line[3]) for line in root.findall("MARKER") if line[3]]
    return Project(tracks, markers, float(tempo[1]) if tempo else None, int(rate[1]))


def read_dawproject(path: Path) -> Project:
    with zipfile.ZipFile(path) as container:
        root = ElementTree.fromstring(container.read("project.xml"))
    lanes = {lane.get("track"): lane for lane in root.findall("Arrangement/Lanes/Lanes")}
    tracks: list[Heard] = []

    def visit(element: ElementTree.Element, above: tuple[str, ...], muted: bool, destination: str) -> None:
        channel = element.find("Channel")
        assert channel is not None
        if channel.get("role") == "master":
            return
        assert channel.get("destination") == destination
        mute, volume = channel.find("Mute"), channel.find("Volume")
        assert mute is not None
        assert volume is not None
        silent = muted or mute.get("value") == "true"
        names = (*above, element.attrib["name"])
        lane = lanes.get(element.get("id"))
        clips = [] if lane is None else lane.findall("Clips/Clip")
        paths = [clip.find("Audio/File").attrib["path"] for clip in clips]  # type: ignore[union-attr]
        tracks.append(
            Heard(
                names,
                silent,
                float(volume.attrib["value"]),
                element.attrib["color"].lstrip("#"),
                [
                    (file, float(clip.attrib["time"]), float(clip.attrib["duration"]))
                    for file, clip in zip(paths, clips, strict=True)
                ],
                len(channel.findall("Devices/Vst3Plugin")),
            )
        )
        for inner in element.findall("Track"):
            visit(inner, names, silent, channel.attrib["id"])

    for element in root.findall("Structure/Track"):
        visit(element, (), False, "master")
    markers = [(float(marker.attrib["time"]), marker.attrib["name"]) for marker in root.iter("Marker")]
    tempo = root.find("Transport/Tempo")
    rates = {int(audio.attrib["sampleRate"]) for audio in root.iter("Audio")}
    return Project(tracks, markers, None if tempo is None else float(tempo.attrib["value"]), min(rates, default=None))


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


def mix(project: Project, folder: Path, frames: int, wanted: Callable[[Heard], bool]) -> np.ndarray:
    """What the wanted tracks sound like together, each clip at its place and through its fader."""
    total = np.zeros((2, frames))
    for track in filter(wanted, project.tracks):
        for file, start_s, length_s in track.clips:
            samples = read(folder / file)
            rate = soundfile.info(folder / file).samplerate
            start = round(start_s * rate)
            assert start_s * rate == pytest.approx(start, abs=1e-6)
            assert length_s * rate == pytest.approx(samples.shape[1], abs=1e-6)
            total[:, start : start + samples.shape[1]] += track.gain * samples
    return total


def audible(track: Heard) -> bool:
    return not track.silent


names = st.text(st.characters(codec="utf-8"), max_size=40)


def clip(folder: Path, name: str = "x", start_s: float = 0.0) -> Clip:
    return Clip(folder / "a b" / "x.wav", name, start_s, 441, RATE, 2, "wav")


def validate(path: Path, data: Path) -> None:
    etree = pytest.importorskip("lxml.etree")
    with zipfile.ZipFile(path) as container:
        for document, schema in (("project.xml", "Project.xsd"), ("metadata.xml", "MetaData.xsd")):
            root = etree.fromstring(container.read(document))
            etree.XMLSchema(file=str(data / "dawproject" / schema)).assertValid(root)


def describe(folder: Path, **changes: Any) -> None:
    """Change what render.json says, as another version of gbsep might."""
    told = json.loads((folder / record.RECORD).read_text())
    (folder / record.RECORD).write_text(json.dumps(record.sealed(told | changes)))


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    return exit_code(*words), *capsys.readouterr()
