"""Galleries: images one can ask for the people on others."""

from visir.data.locate import gallery_items, modality_by_colour
from visir.gallery.results import Hit, RankedList, SearchResult
from visir.gallery.unindexed import search

__all__ = ["Hit", "RankedList", "SearchResult", "gallery_items", "modality_by_colour", "search"]
