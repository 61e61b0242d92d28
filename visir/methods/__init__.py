"""The methods, by the name the command line knows them by.

A method outside this project is named by its address, `package.module:Class`, or by the name under
which its package announces it in the entry point group `visir.methods`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from visir.core.registry import Registry

if TYPE_CHECKING:
    from visir.methods.contract import Method


def _checked(found: object, name: str) -> type[Method]:
    from visir.methods.contract import require_method

    return require_method(found, name)


METHODS: Registry[type[Method]] = Registry(
    kind="method",
    group="visir.methods",
    entries={
        "adca": "visir.methods.adca:Adca",
        "agw": "visir.methods.agw:Agw",
        "caj": "visir.methods.caj:Caj",
        "cmag": "visir.methods.cmag.method:Cmag",
        "dino": "visir.methods.dino:Dino",
        "hct": "visir.methods.hct:Hct",
        "identity": "visir.methods.identity:Identity",
        "mra": "visir.methods.mra.method:Mra",
        "pairs": "visir.methods.pairs:Pairs",
        "sdcl": "visir.methods.sdcl:Sdcl",
        "simclr": "visir.methods.simclr:SimCLR",
        "tokenmatcher": "visir.methods.tokenmatcher.method:TokenMatcher",
        "vit-baseline": "visir.methods.tokenmatcher.method:VitBaseline",
    },
    check=_checked,
)
