import pytest
from fake_run import draw_person


@pytest.fixture
def folder(tmp_path):
    """Crops of nine people in two cameras, one of each modality."""
    for number in range(9):
        draw_person(tmp_path / "crops" / "visible" / "door" / f"{number}.png", number, False, 1)
        draw_person(tmp_path / "crops" / "ir" / "yard" / f"{number}.png", number, True, 2)
    return tmp_path / "crops"
