"""The methods, by the name the command line knows them by."""

from __future__ import annotations

from visir.methods.adca import Adca
from visir.methods.agw import Agw
from visir.methods.caj import Caj
from visir.methods.cmag.method import Cmag
from visir.methods.contract import Method
from visir.methods.dino import Dino
from visir.methods.hct import Hct
from visir.methods.mra.method import Mra
from visir.methods.sdcl import Sdcl
from visir.methods.simclr import SimCLR
from visir.methods.tokenmatcher import TokenMatcher, VitBaseline

METHODS: dict[str, type[Method]] = {
    "adca": Adca,
    "agw": Agw,
    "caj": Caj,
    "cmag": Cmag,
    "dino": Dino,
    "hct": Hct,
    "mra": Mra,
    "sdcl": Sdcl,
    "simclr": SimCLR,
    "tokenmatcher": TokenMatcher,
    "vit-baseline": VitBaseline,
}
