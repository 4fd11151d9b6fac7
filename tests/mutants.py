"""Small faults put into the code one at a time: does a test notice? `make mutants`, not in CI.

A mutant changes one comparison, operator, number or condition of a module of statistics, sums or claims. It is killed
when the module's own tests fail, and survives when they pass. Survivors are listed: each is a missing test, or a change
that changes nothing.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# what tests import takes longer than most of them: once, for the tests of all mutants; keras brings TensorFlow
import altair  # noqa: F401
import keras  # noqa: F401
import pandas  # noqa: F401
import pytest
import sklearn.linear_model  # noqa: F401

ROOT = Path(__file__).parents[1]
# the quick ones first
VERDICTS = [
    f"verdicts/test_{n}.py"
    for n in ["statistics", "claim", "evidence", "interval", "seeds", "structure", "saved_results", "real_runs"]
]
# each module with the tests that speak of it, its folder's own where there are some
TARGETS = {
    "stats/resample.py": ["stats/test_resample.py"],
    "stats/interval.py": ["stats/test_interval.py"],
    "stats/shares.py": ["stats/test_shares.py", "stats/test_measures.py"],
    "stats/hsic.py": ["stats/test_hsic.py"],
    "stats/folded.py": ["stats/test_folded.py", "stats/test_shares.py"],
    "stats/host_gram.py": ["stats/test_hsic.py"],
    "stats/attention.py": ["stats/test_attention.py"],
    "stats/receptive_field.py": ["stats/test_receptive_field.py"],
    "stats/ridge.py": ["stats/test_ridge.py"],
    "stats/measures.py": ["stats/test_measures.py"],
    "stats/pair_noise.py": ["stats/test_pair_noise.py"],
    "stats/tokens.py": ["stats/test_tokens.py"],
    "stats/minibatch_cka.py": ["stats/test_hsic.py", "stats/test_measures.py"],
    "verdicts": VERDICTS,
    "analyses/*/*claims.py": ["analyses/test_{folder}.py", *VERDICTS],
    "walk/gram_sums.py": ["walk/test_gram_sums.py"],
}
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the module's text) for every place where something can be."""
    tree = ast.parse(source)
    for place, node in enumerate(ast.walk(tree)):
        for number, said in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            twin = next(n for i, n in enumerate(ast.walk(changed)) if i == place)
            _apply(twin, number)
            yield f"line {getattr(node, 'lineno', 0)}: {said}", ast.unparse(changed)


def _changes(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        return [f"{type(node.ops[0]).__name__} -> {SWAPS[type(node.ops[0])].__name__}"]
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS and not _of_types(node):
        return [f"{type(node.op).__name__} -> {SWAPS[type(node.op)].__name__}"]
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return [f"{node.value} -> {node.value + 1}"]
    if isinstance(node, ast.If | ast.IfExp):
        return ["condition turned round"]
    return []


def _of_types(node: ast.AST) -> bool:
    """`X | None` of an annotation changes nothing."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and "None" in ast.unparse(node)


def _apply(node: ast.AST, number: int) -> None:
    if isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant):
        node.value += 1
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)


class QuickFirst:
    """Puts a module's quick tests before its slow ones: most mutants die of the first that notices."""

    def __init__(self, times: Path):
        self.times = times
        self.took: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] = self.took.get(report.nodeid, 0) + report.duration

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.times.exists():
            took = json.loads(self.times.read_text())
            items.sort(key=lambda item: took.get(item.nodeid, 0))

    def pytest_sessionfinish(self) -> None:
        if not self.times.exists():
            self.times.write_text(json.dumps(self.took))


def killed(copied: Path, module: Path, text: str, tests: list[str], limit: float) -> bool:
    """Whether a test of the module fails, or never ends, with this text in its place."""
    before = module.read_text()
    module.write_text(text)
    try:
        child = os.fork()  # TensorFlow is imported, and not begun: a run's start costs nothing
        if child == 0:
            times = copied / "-".join(tests).replace("/", "-")
            _test(copied, [f"tests/{t}" for t in tests], QuickFirst(times.with_suffix(".json")))
        return _status(child, time.monotonic() + limit) != 0
    finally:
        module.write_text(before)


def _test(copied: Path, paths: list[str], order: QuickFirst) -> None:
    """Runs the copy's tests in this process, without a word, and ends it with their status."""
    os.chdir(copied)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    status: int = 1
    try:
        os.environ |= {"PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1"}  # of processes that tests start
        sys.dont_write_bytecode = order.times.exists()  # once, of what stands there: a mutant may be as long as it
        sys.path.insert(0, str(copied))
        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *paths], [order]))
    finally:
        os._exit(status)


def _status(child: int, until: float) -> int:
    """How a child ended: its status, or 1 when it had to be stopped."""
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1


def main() -> int:
    """Lists the survivors; exit status 1 when less than the wanted share was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="modules whose path holds this text")
    parser.add_argument("--each", type=int, default=0, help="at most so many mutants of a module, drawn; 0: all")
    parser.add_argument("--share", type=float, default=0.85, help="the least share that must be killed")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a test counts as failed")
    asked = parser.parse_args()
    dead = made = 0
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder)
        for name in ("tf_vitcnn", "tests", "saved_results"):
            shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copied)
        passed = list[list[str]]()
        for target, every in TARGETS.items():
            found = sorted((copied / "tf_vitcnn").glob(target))
            for module in (file for path in found for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])):
                short = module.relative_to(copied / "tf_vitcnn").as_posix()
                drawn = list(mutants(module.read_text()))
                if asked.only not in short or not drawn:
                    continue
                if asked.each:
                    drawn = random.Random(0).sample(drawn, min(asked.each, len(drawn)))
                named = [test.format(folder=module.parent.name) for test in every]
                tests = [test for test in named if (copied / "tests" / test).exists()]
                if tests not in passed:
                    assert not killed(copied, module, module.read_text(), tests, asked.limit), f"{tests} fail as it is"
                    passed.append(tests)
                for said, text in drawn:
                    made += 1
                    if killed(copied, module, text, tests, asked.limit):
                        dead += 1
                    else:
                        print(f"survived: {short}, {said}", flush=True)
                print(f"{short}: {dead} of {made} killed so far", flush=True)
    print(f"{dead} of {made} mutants killed: {dead / max(made, 1):.0%}")
    return int(dead < asked.share * made)


if __name__ == "__main__":
    sys.exit(main())
