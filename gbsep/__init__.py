"""gbsep: a recording in, guitar and bass out, each through its own effect chain."""

__version__ = "0.1.0"
