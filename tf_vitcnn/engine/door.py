"""`run`: a subject, data and an analysis in, a table with its provenance out. scripts/analyze.py is the other door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from etils import epath

from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import Analysis
from tf_vitcnn.engine.execute import tables
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.resume import Lock
from tf_vitcnn.engine.session import Session
from tf_vitcnn.errors import unknown


def run(
    analysis: str | Analysis,
    subject: Any,
    data: Any,
    against: Any = None,
    *,
    images: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    taps: Sequence[str] | str | None = None,
    against_taps: Sequence[str] | str | None = None,
    strategy: Any = "cpu",
    memory: float | None = None,
    resume_dir: str | None = None,
    data_dir: str | None = None,
    skip_bad: bool = False,
    image_size: int | None = None,
    preprocessing: Any = None,
    jit: bool = False,
    compute: str = "float32",
    quiet: bool = True,
    **fields: Any,
) -> pd.DataFrame:
    """The table of one analysis; `.attrs["sidecar"]` says what made it.

    `analysis` by name (its parameters as keywords) or an instance; `subject` and `against` a spec, a Keras model or a
    Subject; `data` a spec, arrays (`images` or `(images, labels)`), a tf.data.Dataset or a source; `preprocessing` of
    `subject`; `memory` in gigabytes; `batch` is the minibatch of Gram analyses, else the micro-batch;
    `compute` says what products inside the networks run in: float32, tensorfloat32 or bfloat16.
    """
    request = Request(
        analyses=(make(analysis, fields),),
        data=data,
        images=images,
        batch=batch,
        seed=seed,
        taps=_globs(taps),
        against_taps=_globs(against_taps),
        memory=memory,
        data_dir=data_dir,
        skip_bad=skip_bad,
        jit=jit,
        quiet=quiet,
        compute=compute,
    )
    said: tuple[dict[str, Any], dict[str, Any]] = ({"preprocessing": preprocessing}, {})
    with Session(request, subject, against, strategy, image_size, said=said) as session:
        return _resumed(session, resume_dir)


def _resumed(session: Session, resume_dir: str | None) -> pd.DataFrame:
    """The table; with a directory, from where an unfinished run stopped."""
    name = f".{session.request.analyses[0].name}.{session.stem()}.resume.npz"
    checkpoint = epath.Path(resume_dir) / name if resume_dir else None
    with Lock(f"{checkpoint}.lock" if checkpoint else None):
        return tables(session, checkpoint)[0]


def make(analysis: str | Analysis, fields: Mapping[str, Any]) -> Analysis:
    """An analysis from its name and parameters; an instance stays as it is, but for the fields given."""
    if isinstance(analysis, Analysis):
        return replace(analysis, **fields) if fields else analysis
    kind = analyses.find(analysis)
    known = list(kind.__dataclass_fields__)
    for name in fields:
        if name not in known:
            raise unknown(f"parameter of {analysis}", name, known)
    return kind(**fields)


def _globs(given: Sequence[str] | str | None) -> tuple[str, ...] | None:
    return (given,) if isinstance(given, str) else None if given is None else tuple(given)
