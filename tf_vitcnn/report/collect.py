"""Tables -> verdicts, charts and one offline page. Reads tables only: no TensorFlow, no network.

The same tables give the same bytes. A file that cannot be used is named in one line and the rest is built.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from etils import epath

from tf_vitcnn import analyses
from tf_vitcnn.analyses import read_table, with_errors_over_images
from tf_vitcnn.errors import BadInput, first_line
from tf_vitcnn.report.figures import draw
from tf_vitcnn.report.model import Report
from tf_vitcnn.report.networks import looks, networks
from tf_vitcnn.report.page import TITLE, framed, page
from tf_vitcnn.tables.files import discard_parts, write_text
from tf_vitcnn.tables.read import read_sidecar
from tf_vitcnn.verdicts import record
from tf_vitcnn.verdicts.claim import Claim, judge
from tf_vitcnn.verdicts.evidence import Result, parts
from tf_vitcnn.verdicts.seeds import over_seeds
from tf_vitcnn.verdicts.verdict import order, to_csv

CLAIMS = "claims.csv"
APART = ("training_log", "scale")  # tables that no figure of the paper shows


class Shown(Report):
    """A report that shows itself in a notebook."""

    def _repr_html_(self) -> str:
        return framed(self)


def collect(root: str | os.PathLike) -> Shown:
    """Everything that the tables under `root` say."""
    folder = epath.Path(root)
    if not folder.is_dir():
        raise BadInput(f"{root}: no such directory; expected the results directory that scripts/analyze.py wrote")
    results, problems = gather(folder)
    if not results and not problems:
        raise BadInput(f"{root}: no tables here; expected ANALYSIS/NAME.csv with NAME.json beside each")
    found = networks(results)
    with looks(found):
        figures, missing, failed = draw(results, found)
        return Shown(results, judge(results, all_claims()), figures, missing, found, problems + failed)


def gather(root: epath.Path) -> tuple[list[Result], list[str]]:
    """All usable tables in order of their paths, and one line for each file that is not usable."""
    results: list[Result] = []
    problems: list[str] = []
    names: dict[tuple[str, str], tuple[str, Any]] = {}
    ours = {*analyses.names(), *analyses.beside()}
    # ANALYSIS/NAME.csv, of one study or of several side by side
    for csv in sorted([*root.glob("*/*.csv"), *root.glob("*/*/*.csv")], key=str):
        path = csv.relative_to(root).as_posix()
        if csv.name == CLAIMS or csv.name.startswith("."):
            continue
        if csv.parent.name not in ours and not csv.with_suffix(".json").exists():
            continue  # nobody says that it is a table of ours
        try:
            sidecar = read_sidecar(csv)
            if sidecar["analysis"] in APART:
                continue
            table = read_table(csv)
            if sidecar["analysis"] not in analyses.names() and "pictures" not in table.attrs:
                continue  # a table beside an analysis' own shows its pictures, and nothing else
            record.check(sidecar)
            found = parts(Result.of(with_errors_over_images(table), path))
            for part in found:
                record.speaks_of(part.sidecar, part.table)
                _same_networks(part, names)
        except (BadInput, OSError) as error:
            problems.append(f"{path}: {first_line(error).replace(f'{csv}: ', '').replace(f'{root}/', '')}")
            continue
        results += found
    return results, problems


def write_report(report: Report, target: Path, root: Path, title: str = TITLE) -> None:
    """The page, and beside the tables its verdicts: both whole or not at all."""
    discard_parts(target, root / CLAIMS)
    write_text(root / CLAIMS, to_csv(line.row() for line in over_seeds(report.verdicts)))
    write_text(target, page(report, title))


def _same_networks(result: Result, names: dict[tuple[str, str], tuple[str, Any]]) -> None:
    """Refuses a table whose model's name already stands for other weights.

    At another image size one network has other weights: its position embeddings are resampled.
    """
    for subject in result.sidecar["subjects"]:
        name, weights = subject["name"], subject.get("weights_sha256")
        first, known = names.setdefault((name, str(subject.get("image_size"))), (result.path, weights))
        if known != weights:
            raise BadInput(f"{name!r} names other weights here than in {first}; give one of them another --name")


def all_claims() -> list[Claim]:
    """Every claim of every analysis, in the paper's order."""
    return sorted((c for name in analyses.names() for c in analyses.find(name).claims), key=lambda c: order(c.place))
