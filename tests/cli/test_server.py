"""What `amana serve` refuses before it serves anything."""

from pathlib import Path

import pytest

from tests.support.server import amana


@pytest.mark.parametrize("surface", ["desk", "all"])
@pytest.mark.parametrize(
    "where",
    [
        ("--listen", "0.0.0.0:8600"),
        ("--listen", "[::]:8600"),
        ("--listen", "desk.example:8600"),
        ("--listen", "192.0.2.7:8600"),
        ("--uds", "socket"),
    ],
)
def test_a_desk_that_others_reach_needs_its_names(
    tmp_path: Path, surface: str, where: tuple[str, str]
) -> None:
    data = tmp_path / "data"
    done = amana("serve", surface, *where, "--data", data, check=2)
    assert "AMANA_TRUSTED_HOSTS" in done.stderr
    assert not data.exists()
