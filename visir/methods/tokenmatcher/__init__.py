"""TokenMatcher: its settings, its camera stage, the method itself."""

from visir.methods.tokenmatcher.method import TokenMatcher as TokenMatcher
from visir.methods.tokenmatcher.method import VitBaseline as VitBaseline
from visir.methods.tokenmatcher.settings import PRESETS as PRESETS
from visir.methods.tokenmatcher.settings import Config as Config
from visir.methods.tokenmatcher.settings import radii_of as radii_of
