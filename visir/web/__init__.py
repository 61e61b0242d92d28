"""A page to search a gallery with, and the HTTP API under it."""
