"""The methods, by the name the command line knows them by."""

from __future__ import annotations

from visir.methods.adca import Adca
from visir.methods.cmag import Cmag
from visir.methods.contract import Method
from visir.methods.dino import Dino
from visir.methods.sdcl import Sdcl
from visir.methods.simclr import SimCLR
from visir.methods.tokenmatcher import TokenMatcher, VitBaseline

METHODS: dict[str, type[Method]] = {
    "adca": Adca,
    "cmag": Cmag,
    "dino": Dino,
    "sdcl": Sdcl,
    "simclr": SimCLR,
    "tokenmatcher": TokenMatcher,
    "vit-baseline": VitBaseline,
}
