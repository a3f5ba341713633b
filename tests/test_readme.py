"""README and the pages of docs/: Python runs, TOML is a job, commands parse, links lead on."""

import itertools
import re
import shlex
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from jaxnet.cli import parser as cli
from jaxnet.sweeps import job_from_dict

ROOT = Path(__file__).parents[1]
ELSEWHERE = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "jaxnet/sweeps/run/cluster.md"]
PAGES = [*(ROOT / name for name in ELSEWHERE), *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


class Example(NamedTuple):
    page: Path
    text: str


def blocks(language):
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [Example(page, text) for page, found in TEXTS.items() for text in fence.findall(found)]


def by_page(examples):
    """Return the examples as parameters, each with the name of its page."""
    return [pytest.param(example, id=example.page.stem) for example in examples]


@pytest.mark.parametrize("example", by_page(blocks("python")))
def test_python_examples_run(example):
    # Fewer steps: that it runs is the claim here, what it gives is tested elsewhere.
    code = example.text.replace("steps=300", "steps=20")
    exec(compile(code, str(example.page), "exec"), {})


@pytest.mark.parametrize("example", by_page(blocks("toml")))
def test_toml_examples_are_jobs(example):
    assert job_from_dict(tomllib.loads(example.text)).configurations()


def commands():
    """Return the commands of jaxnet in blocks of sh and in running text, each once."""
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    verbs = "sweep|train|predict|data|report|diagnose|gradcheck"
    quoted = re.compile(rf"`(jaxnet (?:{verbs})[^`]*)`")
    inline = [command for text in TEXTS.values() for command in quoted.findall(text)]
    parts = [part.strip().removeprefix(".venv/bin/") for line in lines for part in line.split("&&")]
    return sorted({command for command in parts + inline if command.startswith("jaxnet ")})


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    words = shlex.split(command, comments=True)
    assert words[0] == "jaxnet"
    cli._parser().parse_args(words[1:])


def known_options(parser):
    """Return every option of a parser and of those below it."""
    below = [a.choices.values() for a in parser._actions if isinstance(a.choices, dict)]
    own = {option for action in parser._actions for option in action.option_strings}
    return own.union(*(known_options(inner) for inner in itertools.chain(*below)))


def test_options_exist():
    of_others = {ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"}
    texts = [text for page, text in TEXTS.items() if page not in of_others]
    named = {option for text in texts for option in re.findall(r"`(--[a-z-]+)", text)}
    assert named - known_options(cli._parser()) == set()


def targets():
    """Return the relative links and images of every page, those in its examples left out."""
    found = []
    for page, text in TEXTS.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r'\]\(([^)\s]+)\)|<img src="([^"]+)"', prose):
            link = "".join(target)
            if not re.match(r"[a-z]+:", link):
                found.append(pytest.param(page, link, id=f"{page.stem}-{link}"))
    return found


def anchor(heading):
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(("page", "link"), targets())
def test_links_lead_somewhere(page, link):
    path, _, section = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f"{page.name} links to {link}, which is not there"
    if section:
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert section in map(anchor, headings), f"{target.name} has no section #{section}"


def test_every_page_is_listed():
    index = TEXTS[ROOT / "docs" / "index.md"]
    unlisted = [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index]
    assert unlisted == ["index.md"]


def test_there_are_examples_of_each():
    assert len(blocks("python")) >= 8
    assert len(blocks("toml")) >= 2
    assert any(command.startswith("jaxnet sweep --preset") for command in commands())
