"""Output where the terminal, the pipe or the file is not UTF-8: a plainer sign, no traceback."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnet
from jaxnet.host.terminal import PLAINER, printable

ROOT = Path(jaxnet.__file__).parent


def run_python(arguments, encoding, cwd):
    """Run Python with output of an encoding; return its exit code and the texts that came."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True
    )
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


# In the folder of a job file: each command, and the exit code that it should have.
COMMANDS = {
    "--help": 0,
    "train --help": 0,
    "sweep --help": 0,
    "gradcheck --help": 0,
    "sweep jöb.toml --plan": 0,
    "sweep jöb.toml --out rün": 0,
    "train --steps 5 --quiet": 0,
    "report rün": 0,
    "diagnose rün": 0,
    "predict rün": 0,
    "predict rün --out prédictions.csv": 0,
    "data list": 0,
    "data info fashion-mnist-mini": 0,
    "gradcheck --only flatten": 0,
    "gradcheck wrong:f": 1,
    "sweep no-sách-jöb-→.toml": 2,
    "sweep --preset défault→": 2,
    "diagnose →": 2,
    "report Ω": 2,
    "predict 日本": 2,
    "data info fashion-mnist-→": 2,
    "gradcheck --only →": 2,
    "train --optimizer ädäm": 2,
    "train --no-such-öption→": 2,
}
RUN_ALL = """
import sys
from jaxnet.cli.parser import main
for command in open("commands", encoding="utf-8").read().splitlines():
    try:
        code = main(command.split())
    except SystemExit as exit:
        code = exit.code
    for stream in (sys.stdout, sys.stderr):
        print(f"exit {code} of a command", file=stream, flush=True)
"""


@pytest.fixture(scope="module", params=["cp1252", "ascii"])
def printed(request, tmp_path_factory):
    """What each command printed, and its exit code: {command: (code, stdout, stderr)}."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "commands").write_text("\n".join(COMMANDS), "utf-8")
    job = "steps = 10\n[grid]\nlearning_rate = [0.1, 1e9]\nseed = [0, 1]\n"
    (folder / "jöb.toml").write_text(job, "utf-8")
    (folder / "wrong.py").write_text(
        "import jax.numpy as jnp\n"
        "def f(x): return jnp.sum(x**2)\n"
        "def check_args(): return {'args': (jnp.arange(3.0),), 'grad': lambda x: x}\n"
    )
    _, *texts = run_python(["-c", RUN_ALL], request.param, folder)
    ends = re.compile(r"exit (\d+) of a command\n")
    (out, err), codes = map(ends.split, texts), ends.findall(texts[0])
    assert len(codes) == len(COMMANDS), texts[1]
    return dict(zip(COMMANDS, zip(map(int, codes), out[::2], err[::2], strict=False), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_work_where_the_encoding_lacks_signs(printed, command):
    code, stdout, stderr = printed[command]
    assert code == COMMANDS[command]
    if code == 2:
        assert stderr.splitlines()[-1].startswith("jaxnet")
    else:
        assert stdout


def test_signs_are_plain_where_the_encoding_lacks_them(printed):
    _, report, _ = printed["gradcheck wrong:f"]
    assert "or a ½ too many" in report or "or a 1/2 too many" in report
    assert "test accuracy of the best" in printed["sweep jöb.toml --out rün"][1]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_the_program_that_users_start_sets_its_output_up(tmp_path, encoding):
    code, stdout, stderr = run_python(["-m", "jaxnet", "train", "--help"], encoding, tmp_path)
    assert (code, stderr) == (0, "")
    assert "l2*sum" in stdout or "l2·sum" in stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_a_program_prints_of_ours_has_the_signs_that_its_output_has(tmp_path, encoding):
    program = "import jaxnet\nprint(jaxnet.plan(jaxnet.grid(learning_rate=[0.1])))\n"
    code, stdout, stderr = run_python(["-c", program], encoding, tmp_path)
    assert code == 0, stderr
    assert f"1 configurations {'x' if encoding == 'ascii' else '×'} 200 steps" in stdout


def test_a_name_that_is_no_text_goes_out_as_the_bytes_that_it_is(tmp_path):
    name = os.fsdecode(b"r\xffn")
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-m", "jaxnet", "diagnose", name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
    )
    assert done.returncode == 2
    assert b"r\xffn" in done.stderr


def _printed_signs():
    """Every sign beyond ASCII in a string of ours that is no docstring."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from set() if id(node) in docs else {c for c in node.value if c > "\x7f"}


def test_every_sign_of_ours_has_a_plainer_form():
    assert set(_printed_signs()) == PLAINER.keys()
    assert all(plain.isascii() for plain in PLAINER.values())


def test_texts_are_left_alone_where_output_has_their_signs(monkeypatch):
    text = "a → b ± ½"
    for encoding in ("utf-8", None, "no-such-encoding"):
        monkeypatch.setattr(sys, "stdout", type("Out", (), {"encoding": encoding})())
        assert printable(text) == text
    monkeypatch.setattr(sys, "stdout", type("Out", (), {"encoding": "ascii"})())
    assert printable(text) == "a -> b +- 1/2"
    monkeypatch.setattr(sys, "stdout", None)  # a program without a console
    assert printable(text) == text
