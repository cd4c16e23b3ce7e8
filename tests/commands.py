"""Commands in this process: what they write to their results, apart from what libraries print."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

from compression.cli.commands import Add, Command


def run_command(add_commands: Callable[[Add], None], *arguments: str) -> str:
    """What a command writes.

    Args:
        add_commands: adds it to a parser, as those of `compression.cli` do.
        arguments: its name and what a user types behind it.
    """
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text)
        subparser.set_defaults(command=command)
        subparser.add_argument("--json", action="store_true")
        return subparser

    add_commands(add)
    options, results = parser.parse_args(arguments), io.StringIO()
    options.command(options, results)
    return results.getvalue()
