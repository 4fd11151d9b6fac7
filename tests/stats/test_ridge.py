import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier

from tf_vitcnn.stats import ridge

SHAPES = [(60, 12), (60, 200), (41, 40), (30, 1)]  # primal; dual; dual without the held-out ones only; one feature


def problem(n, p, classes=5, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    centre = rng.normal(size=(classes, p))
    held = np.zeros(n, bool)
    held[rng.permutation(n)[: n // 10]] = True
    return (rng.normal(size=(n, p)) + centre[label] + offset), label, held


def from_sums(x, label, held, classes, pivot=None):
    pivot = x[:8].mean(0) if pivot is None else pivot
    fit, rest = (ridge.sums_of(x[m] - pivot, label[m], classes) for m in (~held, held))
    return ridge.fit_sums(fit, rest, pivot)


def brute_force(x, label, held, classes):
    """The squared error on the held-out part, a whole fit for every lambda."""
    y = 2.0 * np.eye(classes)[label] - 1
    fits = [Ridge(alpha=l2, solver="svd").fit(x[~held], y[~held]) for l2 in ridge.LAMBDAS]
    return np.array([((y[held] - fit.predict(x[held]).reshape(held.sum(), -1)) ** 2).sum() for fit in fits])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["rows", "sums"])
def test_equals_scikit_learn(shape, form):
    x, label, held = problem(*shape)
    fit = ridge.fit_rows(x, label, held, 5) if form == "rows" else from_sums(x, label, held, 5)
    other = Ridge(alpha=fit.l2).fit(x, 2.0 * np.eye(5)[label] - 1)
    np.testing.assert_allclose(fit.weights, other.coef_.T, atol=1e-9)
    np.testing.assert_allclose(fit.bias - fit.pivot @ fit.weights, other.intercept_, atol=1e-8)
    new = problem(*shape, seed=1)[0]
    classifier = RidgeClassifier(alpha=fit.l2).fit(x, label)
    np.testing.assert_array_equal(fit.scores(new).argmax(1), classifier.predict(new))


@pytest.mark.parametrize("shape", SHAPES)
def test_lambda_is_that_of_a_brute_force_search(shape):
    x, label, held = problem(*shape)
    errors = brute_force(x, label, held, 5)
    for fit in (ridge.fit_rows(x, label, held, 5), from_sums(x, label, held, 5)):
        np.testing.assert_allclose(fit.errors, errors, rtol=1e-7)
        assert fit.l2 == ridge.LAMBDAS[errors.argmin()]


def test_rank_deficient_and_duplicates():
    x, label, held = problem(60, 12)
    x[:, 6:] = x[:, :6] * 2  # every feature twice
    x[30:] = x[:30]  # every image twice, once under another label perhaps
    for fit in (ridge.fit_rows(x, label, held, 5), from_sums(x, label, held, 5)):
        np.testing.assert_allclose(fit.errors, brute_force(x, label, held, 5), rtol=1e-7)
        other = Ridge(alpha=fit.l2, solver="svd").fit(x, 2.0 * np.eye(5)[label] - 1)
        np.testing.assert_allclose(fit.weights, other.coef_.T, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_primal_is_dual(shape):
    x, label, held = problem(*shape)
    train, rest, y, z = x[~held], x[held], label[~held], label[held]
    mean = train.mean(0)
    primal = ridge._primal_errors(ridge.sums_of(train - mean, y, 5), rest - mean, z, ridge.LAMBDAS)
    dual = ridge._dual_errors(train - mean, y, rest - mean, z, 5, ridge.LAMBDAS)
    np.testing.assert_allclose(primal, dual, rtol=1e-7)
    rows, sums = ridge.fit_rows(x, label, held, 5), from_sums(x, label, held, 5)
    np.testing.assert_allclose(rows.weights, sums.weights, atol=1e-9)
    np.testing.assert_allclose(rows.scores(x), sums.scores(x), atol=1e-8)


def test_streaming_is_all_at_once():
    x, label, held = problem(60, 12)
    whole, pivot = from_sums(x, label, held, 5, np.zeros(12)), x[:4].mean(0)
    parts = {False: [], True: []}
    for i in range(0, 60, 7):
        for role in (False, True):
            rows = slice(i, i + 7)
            mine = held[rows] == role
            parts[role].append(ridge.sums_of(x[rows][mine] - pivot, label[rows][mine], 5))
    fit, rest = (ridge.Sums(*(sum(s) for s in zip(*parts[role], strict=True))) for role in (False, True))
    np.testing.assert_allclose(ridge.fit_sums(fit, rest, pivot).scores(x), whole.scores(x), atol=1e-9)


def test_classes_without_examples():
    x, label, held = problem(60, 12)
    for classes in (5, 8):  # three more classes that no image has
        fit = ridge.fit_rows(x, label, held, classes)
        assert fit.scores(x).argmax(1).max() < 5
        np.testing.assert_allclose(fit.weights[:, 5:], 0, atol=1e-12)
    held = label == 3  # a class that only the held-out part has
    fit, errors = ridge.fit_rows(x, label, held, 5), brute_force(x, label, held, 5)
    np.testing.assert_allclose(fit.errors, errors, rtol=1e-7)
    np.testing.assert_allclose(from_sums(x, label, held, 5).errors, errors, rtol=1e-7)


def test_one_class_only():
    x, _, held = problem(60, 12)
    for classes, only in ((1, 0), (4, 2)):
        label = np.full(60, only)
        for fit in (ridge.fit_rows(x, label, held, classes), from_sums(x, label, held, classes)):
            np.testing.assert_array_equal(fit.scores(x).argmax(1), only)


def test_constant_features():
    label, held = problem(60, 12)[1:]
    fit = ridge.fit_rows(np.full((60, 12), 3.0), label, held, 5)
    np.testing.assert_array_equal(fit.scores(np.full((2, 12), 3.0)).argmax(1), np.bincount(label).argmax())


@pytest.mark.parametrize("shape", SHAPES)
def test_an_offset_changes_nothing(shape):
    x, label, held = problem(*shape)
    plain = ridge.fit_rows(x, label, held, 5)
    far = (x + 1e3).astype("float32")
    for fit in (ridge.fit_rows(far, label, held, 5), from_sums(far.astype("float64"), label, held, 5)):
        assert fit.l2 == plain.l2
        np.testing.assert_allclose(fit.scores(far), plain.scores(x), atol=1e-3)  # float32 holds 1e3 + x to 6e-5


def test_singular_sums_below_rounding_do_not_blow_up():
    a = np.diag([1e6, -1e-2])  # what float32 makes of a zero eigenvalue
    np.testing.assert_allclose(ridge.solve_positive(a, np.ones((2, 1)), 2.0**-10)[:, 0], [1e-6, 2.0**10], rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_systems_of_any_size_are_solved_and_eigenvalues_below_zero_are_rounding(size):
    """The lowest eigenvalue is 1e-9 below zero where lambda is 1e-10: it counts as zero, the others as they are."""
    rng = np.random.default_rng(size)
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    for lowest, l2 in ((0.2, 1e-10), (-1e-9, 1e-10), (-1e-9, 4.0)):
        spectrum = np.array([0.5, 0.3, 2.0, 0.7, 0.4, 0.9])[:size]
        spectrum[0] = lowest
        system = ridge.Shifted((basis * spectrum) @ basis.T)
        b, h = rng.normal(size=(2, size, 3))
        found = system.rotate(h).T @ system.solve(system.rotate(b), l2)
        expected = (h.T @ basis / (np.maximum(spectrum, 0) + l2)) @ (basis.T @ b)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
