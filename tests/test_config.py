"""Settings that cannot be used are all named at once, and no value is repeated."""

from pathlib import Path

import pytest

from amana.config import ConfigInvalid, read_config

FAULTS = {
    "BASE_PATH": [
        "desk",
        "/desk/",
        "/",
        "//desk",
        "/desk?x",
        "/de sk",
        "https://desk.example/desk",
    ],
    "WORKERS": ["0", "many"],
    "THREADS": ["1"],
    "ADMISSION_PRICE": ["25"],
    "SILENCE_SECONDS": ["0"],
    "OBJECTS": ["elsewhere"],
    "TIMESTAMP_HOURS": ["0", "5", "48", "often"],
    "TIMESTAMP_AUTHORITIES": ["nobody", "A=http://a", "a=b,a=c"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in FAULTS.items() for value in values]
)
def test_a_setting_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.setenv(f"AMANA_{name}", value)
    with pytest.raises(ConfigInvalid) as refused:
        read_config(tmp_path)
    assert str(refused.value) == f"These settings cannot be used: AMANA_{name}."


def test_all_faults_are_told_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, values in FAULTS.items():
        monkeypatch.setenv(f"AMANA_{name}", values[0])
    with pytest.raises(ConfigInvalid) as refused:
        read_config(tmp_path)
    assert all(f"AMANA_{name}" in str(refused.value) for name in FAULTS)


def test_a_file_that_names_a_secret_and_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AMANA_DATABASE_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize("path", ["", "/desk", "/a/b.c/~d"])
def test_a_path_that_a_proxy_takes_off_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    monkeypatch.setenv("AMANA_BASE_PATH", path)
    assert read_config(tmp_path).base_path == path
