"""Settings of all methods: their bounds are those of the central lists of earlier versions."""

import ast
import inspect
from dataclasses import fields, replace

import pytest

from visir.core.bounds import require_within_bounds
from visir.core.types import InputError
from visir.methods import METHODS

pytestmark = pytest.mark.slow

# The rule of versions up to 0.1.0, by the names of the settings.
MAY_BE_ZERO = {
    "pad", "stage_epochs", "switch", "intra_from", "cross_from", "camera_epochs", "camera_from",
    "mate_switch", "share_net", "classes", "warmup", "scaled",
}  # fmt: skip
POSITIVE = {
    "eps", "camera_eps", "carc_eps", "cats_temperature", "gsmem_radius", "temperature",
    "transport_temperature", "transport_slack", "lr", "power", "kl_temperature",
    "address_temperature", "contrast_temperature",
}  # fmt: skip
SHARES = {
    "eps", "camera_eps", "jitter", "momentum", "first_momentum", "instance_momentum",
    "carc_eps", "carc_p0", "mixed_momentum", "aggregation", "ratio", "neighbour_ratio", "drop_path",
    "smoothing", "bleach", "erasing", "gray", "threshold", "trunk_lr", "fill", "one_sided",
    "average", "least_matched", "chance",
}  # fmt: skip
INTS = (-5, -1, 0, 1, 2, 1000)
FLOATS = (-1.0, -1e-9, -0.0, 0.0, 1e-9, 0.5, 1.0, 1.0 + 1e-9, 7.0, float("inf"))


def accepted_before(config):
    for name, value in vars(config).items():
        for number in value if isinstance(value, tuple) else (value,):
            least = 0 if name in MAY_BE_ZERO else 1
            if type(number) is int and number < least:
                return False
            if type(number) is not float:
                continue
            if number < 0 or (name in POSITIVE and number == 0):
                return False
            if name in SHARES and number > 1:
                return False
    return True


def accepted_now(config):
    try:
        require_within_bounds(config)
    except InputError:
        return False
    return True


def variants(value):
    """Values to try in place of a preset's, in every place of a tuple."""
    if isinstance(value, tuple):
        for place, item in enumerate(value):
            yield from ((*value[:place], new, *value[place + 1 :]) for new in variants(item))
    elif type(value) is int:
        yield from INTS
    elif type(value) is float:
        yield from FLOATS


@pytest.mark.parametrize("name", METHODS)
def test_the_bounds_accept_and_refuse_the_same_values_as_before(name):
    tried = {True: 0, False: 0}
    for preset in METHODS[name].presets.values():
        assert accepted_now(preset)
        for field in fields(preset):
            for value in variants(getattr(preset, field.name)):
                changed = replace(preset, **{field.name: value})
                assert accepted_now(changed) == accepted_before(changed), (field.name, value)
                tried[accepted_before(changed)] += 1
    assert min(tried.values()) > 20


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_smoke_preset(name):
    presets = METHODS[name].presets
    assert {"tiny", "smoke"} <= set(presets)
    assert type(presets["smoke"]) is type(presets["tiny"])
    assert presets["smoke"].size == (32, 16)
    assert presets["smoke"].precision == "fp32"


def test_an_unknown_association_is_refused_by_name():
    for name in ("adca", "sdcl", "tokenmatcher", "cmag", "vit-baseline"):
        config = replace(METHODS[name].presets["tiny"], association="mutal")
        with pytest.raises(InputError, match=r"association: must be one of .* mean 'mutual'"):
            require_within_bounds(config)


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_on_one_line_from_which_its_source_is_read(name):
    for kind in type(METHODS[name].presets["tiny"]).__mro__[:-1]:
        (about,) = ast.parse(inspect.getsource(kind)).body
        broken = [
            field.target.id
            for field in about.body
            if isinstance(field, ast.AnnAssign) and field.lineno != field.end_lineno
        ]
        assert broken == [], kind
