"""Ridge regression in closed form onto targets in {-1, 1}^C, one decomposition for every lambda.

With features and targets centred on their means (so the intercept is free), A = X'X and B = X'Y,

    W(l) = (A + l I)^-1 B.

Known by its rows, the held-out part is predicted for every lambda. A = Q T Q' with T tridiagonal costs a fraction of
an eigendecomposition, and then (T + l I)^-1 Q'B is a few operations per number: P(l) = (X_held Q) (T + l I)^-1 Q'B.
With fewer images than features the dual form has the same shape, X X' in place of A and Y in place of B.

Known by its sums alone (G = X'X, R = X'Y, T = tr Y'Y about the same means), its squared error is, with
A = Q diag(e) Q',

    T - 2 tr W'R + tr W'G W = T - 2 d.diag(C S') + d'(Q'GQ * CC')d,   d = 1 / (e + l), C = Q'B, S = Q'R.

Lambda minimises that error; the final solve uses all images (Dosovitskiy et al. 2021, appendix D.4).

Axes: n images, p features, c classes. All in float64: the sums of centred float32 products cancel.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.linalg import lapack

LAMBDAS = 2.0 ** np.arange(-10, 21)


class Sums(NamedTuple):
    """What the closed form needs to know of some images: sums about a pivot that all parts share."""

    xx: np.ndarray  # [p, p]  sum of x x'
    xy: np.ndarray  # [c, p]  sum of x over the images of a class
    images: np.ndarray  # [c]  images of a class

    def plus(self, other: "Sums") -> "Sums":
        """The sums of both parts together."""
        return Sums(self.xx + other.xx, self.xy + other.xy, self.images + other.images)


class Solution(NamedTuple):
    """A probe: scores of the classes are (x - pivot) @ weights + bias."""

    pivot: np.ndarray  # [p]
    weights: np.ndarray  # [p, c]
    bias: np.ndarray  # [c]
    l2: float
    errors: np.ndarray  # [lambdas] squared error on the held-out part

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores of the classes, [n, p] -> [n, c]."""
        return (features - self.pivot) @ self.weights + self.bias


class _Centred(NamedTuple):
    a: np.ndarray  # [p, p]
    b: np.ndarray  # [p, c]
    mean: np.ndarray  # [p]
    target: np.ndarray  # [c] mean of the targets


def fit_sums(fit: Sums, held: Sums, pivot: np.ndarray, lambdas: np.ndarray = LAMBDAS) -> Solution:
    """The probe of a training set that is known by the sums of its two parts only."""
    centred = _centred(fit)
    spectrum, basis = np.linalg.eigh(centred.a)
    x = held.xy.sum(0)
    m, images = centred.mean, held.images.sum()
    gram = held.xx - np.outer(x, m) - np.outer(m, x) + images * np.outer(m, m)
    # targets are 2 * onehot - 1: sums of one-hot products are sums over classes
    cross = 2 * (held.xy.T - np.outer(m, held.images)) - np.outer(x - images * m, 1 + centred.target)
    errors = held_out_errors(
        spectrum=spectrum,
        c=basis.T @ centred.b,
        s=basis.T @ cross,
        gram=basis.T @ gram @ basis,
        total=_target_scatter(held.images, centred.target),
        lambdas=lambdas,
    )
    best = float(lambdas[np.argmin(errors)])
    final = _centred(fit.plus(held))
    return _solution(final, solve_positive(final.a, final.b, best), pivot, best, errors)


def fit_rows(
    features: np.ndarray, label: np.ndarray, held: np.ndarray, classes: int, lambdas: np.ndarray = LAMBDAS
) -> Solution:
    """The probe of features [n, p], labels [n] and a held-out mask [n]: primal or dual, whichever is smaller."""
    mean = features[~held].mean(0, dtype="float64")
    # one centring serves both fits: the final one accounts for the difference of the means in its sums
    x = features - mean
    train, rest = (x[~held], label[~held]), (x[held], label[held])
    parts = [sums_of(*part, classes) for part in (train, rest)] if len(x) >= features.shape[1] else None
    if parts and len(train[0]) >= features.shape[1]:
        errors = _primal_errors(parts[0], *rest, lambdas)
    else:
        errors = _dual_errors(*train, *rest, classes, lambdas)
    best = float(lambdas[np.argmin(errors)])
    if parts is None:
        return _dual_solution(x, label, classes, mean, best, errors)
    final = _centred(parts[0].plus(parts[1]))
    return _solution(final, solve_positive(final.a, final.b, best), mean, best, errors)


def sums_of(features: np.ndarray, label: np.ndarray, classes: int) -> Sums:
    """The sums of centred features [n, p]."""
    return Sums(features.T @ features, one_hot(label, classes).T @ features, np.bincount(label, minlength=classes))


def one_hot(label: np.ndarray, classes: int) -> scipy.sparse.csr_array:
    """Labels [n] as a sparse matrix [n, c]: class sums cost n p, not n p c."""
    rows = np.arange(len(label))
    return scipy.sparse.csr_array((np.ones(len(label)), (rows, label)), shape=(len(label), classes))


def held_out_errors(
    *, spectrum: np.ndarray, c: np.ndarray, s: np.ndarray, gram: np.ndarray, total: float, lambdas: np.ndarray
) -> np.ndarray:
    """Squared error on the held-out part for every lambda (the module's second equation)."""
    # rounding leaves eigenvalues of a singular matrix a little below zero
    d = 1 / (np.maximum(spectrum, 0)[None] + lambdas[:, None])  # [lambdas, p]
    linear = d @ np.einsum("ic,ic->i", c, s)
    quadratic = np.einsum("li,li->l", d @ (gram * (c @ c.T)), d)
    return total - 2 * linear + quadratic


def solve_positive(a: np.ndarray, b: np.ndarray, l2: float) -> np.ndarray:
    """(A + l2 I)^-1 B for A positive semi-definite up to rounding."""
    shifted = np.array(a, order="F")
    np.einsum("ii->i", shifted)[:] += l2
    _, solution, info = lapack.dposv(shifted, b, lower=1, overwrite_a=1)
    if info == 0:
        return solution
    # rounding of the sums outweighs lambda
    spectrum, basis = np.linalg.eigh(a)
    return basis @ ((basis.T @ b) / (np.maximum(spectrum, 0) + l2)[:, None])


def _primal_errors(train: Sums, test: np.ndarray, label: np.ndarray, lambdas: np.ndarray) -> np.ndarray:
    centred = _centred(train)
    target = _targets(label, len(train.images)) - centred.target
    return _errors(centred.a, centred.b, test.T, target, lambdas)


def _dual_errors(
    train: np.ndarray, label: np.ndarray, test: np.ndarray, test_label: np.ndarray, classes: int, lambdas: np.ndarray
) -> np.ndarray:
    mean = _mean_target(np.bincount(label, minlength=classes))
    targets = [_targets(part, classes) - mean for part in (label, test_label)]
    return _errors(train @ train.T, targets[0], train @ test.T, targets[1], lambdas)


def _errors(a: np.ndarray, b: np.ndarray, h: np.ndarray, target: np.ndarray, lambdas: np.ndarray) -> np.ndarray:
    """Squared error of the predictions h' (A + l I)^-1 b for every lambda."""
    shifted = Shifted(a)
    b, h = np.split(shifted.rotate(np.hstack([b, h])), [b.shape[1]], axis=1)
    return np.array([((target - h.T @ shifted.solve(b, l2)) ** 2).sum() for l2 in lambdas])


class Shifted:
    """(A + l I)^-1 for many l: A, positive semi-definite up to rounding, is brought to tridiagonal form once."""

    def __init__(self, a: np.ndarray) -> None:
        lwork, _ = lapack.dsytrd_lwork(len(a), lower=1)
        # LAPACK wants columns: the transpose of a symmetric matrix is itself
        packed, self.diagonal, self.off, self.tau, _ = lapack.dsytrd(a.T, lower=1, lwork=int(lwork))
        self.reflectors = np.asfortranarray(packed[1:, :-1])

    def rotate(self, x: np.ndarray) -> np.ndarray:
        """Q'x."""
        if len(self.diagonal) < 2:
            return x
        out = np.asfortranarray(x[1:])
        _, lwork, _ = lapack.dormqr("L", "T", self.reflectors, self.tau, out, -1)
        out, _, _ = lapack.dormqr("L", "T", self.reflectors, self.tau, out, int(lwork[0]), overwrite_c=1)
        return np.concatenate([x[:1], out])

    def solve(self, rotated: np.ndarray, l2: float) -> np.ndarray:
        """(T + l I)^-1 of what `rotate` returned."""
        if len(self.off):
            *_, out, info = lapack.dptsv(self.diagonal + l2, self.off, rotated)
            if info == 0:
                return out
        # a single feature, or rounding left an eigenvalue below -lambda
        spectrum, basis = scipy.linalg.eigh_tridiagonal(self.diagonal, self.off)
        return basis @ ((basis.T @ rotated) / (np.maximum(spectrum, 0) + l2)[:, None])


def _dual_solution(
    x: np.ndarray, label: np.ndarray, classes: int, pivot: np.ndarray, l2: float, errors: np.ndarray
) -> Solution:
    mean, mean_target = x.mean(0), _mean_target(np.bincount(label, minlength=classes))
    x = x - mean
    alpha = solve_positive(x @ x.T, _targets(label, classes) - mean_target, l2)
    weights = x.T @ alpha
    return Solution(pivot, weights, mean_target - mean @ weights, l2, errors)


def _solution(final: _Centred, weights: np.ndarray, pivot: np.ndarray, l2: float, errors: np.ndarray) -> Solution:
    return Solution(pivot, weights, final.target - final.mean @ weights, l2, errors)


def _centred(sums: Sums) -> _Centred:
    images = sums.images.sum()
    mean = sums.xy.sum(0) / images
    a = np.outer(mean, -images * mean)
    a += sums.xx  # in place: such matrices are larger than a cache
    b = 2 * (sums.xy.T - np.outer(mean, sums.images))
    return _Centred(a, b, mean, _mean_target(sums.images))


def _mean_target(count: np.ndarray) -> np.ndarray:
    return 2 * count / count.sum() - 1


def _targets(label: np.ndarray, classes: int) -> np.ndarray:
    targets = np.full((len(label), classes), -1.0)
    targets[np.arange(len(label)), label] = 1
    return targets


def _target_scatter(count: np.ndarray, about: np.ndarray) -> float:
    """Sum of |y - about|^2 over images of which `count` [c] have each class."""
    images = count.sum()
    return float((count * (1 - about) ** 2 + (images - count) * (1 + about) ** 2).sum())
