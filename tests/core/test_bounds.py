"""Bounds beside a setting: what they accept, and what the message says."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from visir.core.bounds import (
    Above,
    AtLeast,
    AtMost,
    CountFrom0,
    OneOf,
    Positive,
    PositiveShare,
    Share,
    require_within_bounds,
)
from visir.core.types import InputError


@dataclass(frozen=True)
class Config:
    """A setting of each kind."""

    count: int = 1
    weight: float = 0.0
    first: CountFrom0 = 0
    share: Share = 0.5
    eps: PositiveShare = 0.5
    temperature: Positive = 0.1
    even: Annotated[int, AtLeast(2), AtMost(8)] = 4
    shift: Annotated[float, AtLeast(-1)] = 0.0
    pair: tuple[Share, Positive] = (0.5, 2.0)
    steps: tuple[int, ...] = (1, 2)
    empty: tuple[PositiveShare, ...] = ()
    maybe: Share | None = None
    word: Annotated[str, OneOf({"count": 1, "greedy": 2})] = "count"
    flag: bool = False
    choice: Literal["a", "b"] = "a"
    anything: Any = "x"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"count": 0}, "setting count: must be >= 1, got 0"),
        ({"weight": -0.5}, "setting weight: must be >= 0, got -0.5"),
        ({"first": -1}, "setting first: must be >= 0, got -1"),
        ({"share": 1.5}, "setting share: must be <= 1, got 1.5"),
        ({"eps": 0.0}, "setting eps: must be > 0, got 0.0"),
        ({"temperature": 0.0}, "setting temperature: must be > 0, got 0.0"),
        ({"even": 1}, "setting even: must be >= 2, got 1"),
        ({"even": 9}, "setting even: must be <= 8, got 9"),
        ({"shift": -2.0}, "setting shift: must be >= -1, got -2.0"),
        ({"pair": (0.5, 0.0)}, "setting pair: must be > 0, got (0.5, 0.0)"),
        ({"pair": (2.0, 1.0)}, "setting pair: must be <= 1, got (2.0, 1.0)"),
        ({"steps": (3, 0)}, "setting steps: must be >= 1, got (3, 0)"),
        ({"empty": (0.5, 0.5, 2.0)}, "setting empty: must be <= 1, got (0.5, 0.5, 2.0)"),
        ({"maybe": 2.0}, "setting maybe: must be <= 1, got 2.0"),
        ({"word": "gredy"}, "setting word: must be one of 'count', 'greedy' (did you mean "
         "'greedy'?), got gredy"),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_by_name(settings, said):
    with pytest.raises(InputError) as caught:
        require_within_bounds(Config(**settings))
    assert str(caught.value) == said


def test_values_on_the_bounds_are_accepted():
    require_within_bounds(Config())
    require_within_bounds(
        Config(share=1.0, eps=1.0, even=8, shift=-1.0, pair=(0.0, 1e-9), maybe=0.0, word="greedy",
               empty=(1.0,))
    )  # fmt: skip


def test_a_bound_is_a_class_of_anyones_own():
    class Odd:
        def holds(self, value):
            return value % 2 == 1

        def rule(self, value):
            return "odd"

    @dataclass(frozen=True)
    class Own:
        kernel: Annotated[int, Odd()] = 3
        above: Annotated[float, Above(2)] = 3.0

    # A class inside a function: its annotations are the objects themselves.
    require_within_bounds(Own())
    with pytest.raises(InputError, match="setting kernel: must be odd, got 4"):
        require_within_bounds(Own(kernel=4))
    with pytest.raises(InputError, match=r"setting above: must be > 2, got 2\.0"):
        require_within_bounds(Own(above=2.0))
