"""The methods, by the name the command line knows them by."""

from __future__ import annotations

from visir.methods.adca import Adca
from visir.methods.contract import Method
from visir.methods.sdcl import Sdcl
from visir.methods.simclr import SimCLR

METHODS: dict[str, type[Method]] = {
    "adca": Adca,
    "sdcl": Sdcl,
    "simclr": SimCLR,
}
