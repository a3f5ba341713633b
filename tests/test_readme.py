"""The README's examples: Python runs, TOML describes jobs, commands have the options they name."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from jaxnet.cli import parser as cli
from jaxnet.sweeps import job_from_dict

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(code):
    # Fewer steps: that it runs is the claim here, what it gives is tested elsewhere.
    exec(compile(code.replace("steps=300", "steps=20"), str(README), "exec"), {})


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_examples_are_jobs(text):
    assert job_from_dict(tomllib.loads(text)).configurations()


def commands():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    inline = re.findall(r"`(jaxnet (?:sweep|train|predict|data)[^`]*)`", TEXT)
    found = [part for line in lines for part in line.split(" && ")] + inline
    return sorted({c.removeprefix(".venv/bin/") for c in found if "jaxnet " in c.split("/")[-1]})


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    words = shlex.split(command)
    assert words[0] == "jaxnet"
    cli._parser().parse_args(words[1:])


def test_there_are_examples_of_each():
    assert len(blocks("python")) >= 2
    assert len(blocks("toml")) >= 2
    assert any(command.startswith("jaxnet sweep --preset") for command in commands())
