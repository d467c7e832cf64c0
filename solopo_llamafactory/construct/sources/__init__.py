"""Readers of question files and data sets: one small class a source, all giving `Question`s."""

from .generic import GenericSource
from .hotpotqa import HotpotqaSource
from .musique import DemoSource, MusiqueSource
from .questions import Document, Hop, Question
from .two_hop import TwoHopSource
from .twowiki import TwoWikiSource


SOURCES = {
    source.name: source
    for source in (MusiqueSource, HotpotqaSource, TwoWikiSource, GenericSource, DemoSource, TwoHopSource)
}

__all__ = ["SOURCES", "DemoSource", "Document", "Hop", "MusiqueSource", "Question"]
