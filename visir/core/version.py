"""The version of visir; it stands also in pyproject.toml."""

__version__ = "0.1.0"
