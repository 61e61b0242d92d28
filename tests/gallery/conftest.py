import pytest

from visir.gallery.sqlite import LocalGallery


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    """An empty gallery of either kind."""
    if request.param == "sqlite":
        gallery = LocalGallery(tmp_path / "a gallery", create=True)
    else:
        from visir.gallery.postgres import PostgresGallery

        gallery = PostgresGallery(request.getfixturevalue("schema"), create=True)
    yield gallery
    gallery.close()
