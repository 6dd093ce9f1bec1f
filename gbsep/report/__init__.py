"""Renders to hear, to see and to judge: one HTML page, and the review of it by a person."""

from .page import write_report
from .songs import collect

__all__ = ["collect", "write_report"]
