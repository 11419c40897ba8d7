"""What every command of `amana` keeps to."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from amana.cli import COMMANDS, main

SERVER_MODULES = ("flask", "sqlalchemy", "gunicorn", "amana.app", "amana.config")


@pytest.mark.parametrize("command", ["witness", "verify", "reviewer", "officer"])
def test_a_command_of_the_far_ends_loads_no_server(command: str) -> None:
    program = (
        "import sys; from amana.cli import main; main([sys.argv[1], '--help'], standalone_mode=False);"
        f"print([name for name in {SERVER_MODULES} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_that_is_listed_exists() -> None:
    listed = main.list_commands(click.Context(main))
    assert listed == list(COMMANDS)
    assert all(main.get_command(click.Context(main), name) for name in listed)
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0


def test_a_command_that_is_not_there_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["send"]).exit_code == 2
