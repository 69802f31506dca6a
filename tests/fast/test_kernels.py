"""The fused loops do what their NumPy specification says, and a run goes on where they cannot.

Each loop is compared compiled and as plain Python; with NPVAE_BACKEND=numpy or NUMBA_DISABLE_JIT=1
only as plain Python, and what is about the compiler or its cache is skipped.
"""

import errno
import inspect
import json
import math
import os
import runpy
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npvae.datasets.augmentation
import npvae.datasets.minibatches
import npvae.optimizers  # noqa: F401  for Fused.all to be complete
from npvae.core.errors import OptionError
from npvae.core.parameters import Array
from npvae.fast import jit, kernels
from npvae.fast.jit import BACKEND, Fused
from npvae.layers import reparameterize
from npvae.losses import bce_with_logits
from npvae.model import VAE

needs_compiler = pytest.mark.skipif(
    BACKEND == "numpy", reason=f"about compiled loops: {jit.WHY_NUMPY}"
)

DTYPES = [np.float32, np.float64]
SIZES = [(1, 1), (3, 5), (7, 10), (17, 784)]
Arguments = list[Any]


class Draw:
    """Random arguments of one size and dtype."""

    def __init__(self, size: tuple[int, int], dtype: Any, seed: int = 0) -> None:
        self.size, self.dtype, self.rng = size, dtype, np.random.default_rng(seed)

    def normal(self, scale: float = 1.0) -> Array:
        return self.rng.normal(0, scale, self.size).astype(self.dtype)

    def pixels(self) -> Array:
        return self.rng.random(self.size).astype(self.dtype)

    def empty(self) -> Array:
        return np.full(self.size, 123.0, self.dtype)


def gather_pixels(draw: Draw) -> Arguments:
    images = draw.rng.integers(0, 256, (9, draw.size[1]), np.uint8)
    return [images, draw.rng.integers(0, 9, draw.size[0]), draw.empty()]


def warp_pixels(draw: Draw) -> Arguments:
    """Pixels of every colour, moved anywhere, and often beyond the edge; images are square."""
    count, side = draw.size[0], math.isqrt(draw.size[1])
    images = draw.rng.integers(0, 256, (9, side * side), np.uint8)
    warps = draw.rng.normal(0, 1, (count, 2, 3))
    out = np.full((count, side * side), 123.0, draw.dtype)
    return [images, draw.rng.integers(0, 9, count), warps, out]


def adam_step(draw: Draw) -> Arguments:
    theta, gradient, m = (draw.normal().ravel() for _ in range(3))
    return [theta, gradient, m, m**2 + gradient**2, 3, 0.1, 0.9, 0.999, 1e-8]


def latent_gradients(draw: Draw) -> Arguments:
    return [*(draw.normal() for _ in range(4)), 0.3, draw.empty(), draw.empty()]


ARGUMENTS: dict[str, Callable[[Draw], Arguments]] = {
    "adam_step": adam_step,
    "bce_and_gradient": lambda d: [d.normal(5), d.pixels(), 0.25, d.empty()],
    "bce_with_logits": lambda d: [d.normal(5), d.pixels()],
    "bias_relu": lambda d: [d.normal(), d.normal()[0]],
    "gather_pixels": gather_pixels,
    "latent_gradients": latent_gradients,
    "relu_backward": lambda d: [np.maximum(d.normal() + 1, 0), d.normal()],
    "reparameterize": lambda d: [*(d.normal() for _ in range(3)), d.empty()],
    "warp_pixels": warp_pixels,
}
FUSED = {fused.specification.__name__: fused for fused in Fused.all}


def names_of(name: str) -> list[str]:
    return list(inspect.signature(FUSED[name].specification).parameters)


def is_output(argument: str) -> bool:
    return argument.startswith("out") or argument in ("theta", "m", "v")


@pytest.fixture(params=["loop", pytest.param("compiled", marks=needs_compiler)])
def version(request: pytest.FixtureRequest) -> Callable[[str], Callable[..., Any]]:
    """Which of its versions a fused function runs: the loop as plain Python, or compiled."""

    def choose(name: str) -> Callable[..., Any]:
        fused = FUSED[name]
        if request.param == "loop":
            return fused.loop
        fused.prepare()
        assert len(fused.versions) > 1, "the compiled versions have been given up"
        return fused.versions[0]

    return choose


def outcome(name: str, function: Callable[..., Any], arguments: Arguments) -> dict[str, Array]:
    """What a function returns, if anything, and what it leaves in its outputs."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    with np.errstate(all="ignore"):
        result = function(*copies)
    outputs = {k: a for k, a in zip(names_of(name), copies, strict=True) if is_output(k)}
    return outputs if result is None else {"returned": result, **outputs}


# ------------------------------------------------------------------ the twins


def test_every_fused_function_is_tested_here() -> None:
    assert sorted(FUSED) == sorted(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_twins_have_the_same_signature(name: str) -> None:
    fused = FUSED[name]
    specification, loop = (
        inspect.signature(function, eval_str=False)
        for function in (fused.specification, fused.loop)
    )
    assert list(specification.parameters) == list(loop.parameters)
    assert inspect.signature(fused) == specification
    assert fused.loop.__name__ == name
    assert fused.__doc__


@pytest.fixture
def numpy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A specification that calls another fused function gets the specification of that."""
    for fused in Fused.all:
        names = fused.specification.__globals__
        for name in [name for name, value in names.items() if isinstance(value, Fused)]:
            monkeypatch.setitem(names, name, names[name].specification)


@pytest.mark.usefixtures("numpy_alone")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_twins_agree(
    name: str, size: tuple[int, int], dtype: Any, version: Callable[[str], Callable[..., Any]]
) -> None:
    arguments = ARGUMENTS[name](Draw(size, dtype))
    expected = outcome(name, FUSED[name].specification, arguments)
    found = outcome(name, version(name), arguments)
    # The fast exp and log1p are right to 3e-7, and sums of 784 terms in another order to
    # sqrt(784) * eps; where terms near 5 cancel, that is an absolute error.
    near = 16 * float(np.finfo(dtype).eps)
    assert list(found) == list(expected)
    for what in expected:
        assert found[what].dtype == expected[what].dtype
        np.testing.assert_allclose(found[what], expected[what], rtol=near, atol=near, err_msg=what)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_only_outputs_change(name: str, version: Callable[[str], Callable[..., Any]]) -> None:
    arguments = ARGUMENTS[name](Draw((3, 5), np.float32))
    for function in (FUSED[name].specification, version(name)):
        given = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        function(*given)
        for argument, before, now in zip(names_of(name), arguments, given, strict=True):
            if isinstance(before, np.ndarray):
                assert is_output(argument) == (not np.array_equal(before, now)), argument


FLOAT_INPUTS = [
    (name, k)
    for name, draw in ARGUMENTS.items()
    for k, value in enumerate(draw(Draw((1, 1), float)))
    if isinstance(value, np.ndarray) and value.dtype == float and not (value == 123).any()
]


@pytest.mark.usefixtures("numpy_alone")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "k"), FLOAT_INPUTS)
def test_nan_and_infinity_pass_through_visibly_and_alike(
    name: str, k: int, bad: float, dtype: Any, version: Callable[[str], Callable[..., Any]]
) -> None:
    arguments = ARGUMENTS[name](Draw((3, 5), dtype))
    arguments[k].flat[-2] = bad
    expected = outcome(name, FUSED[name].specification, arguments)
    found = outcome(name, version(name), arguments)
    # In float64 the compiler sees that c1 = 1 - b1 and makes b1 * (m - g) + g of Adam's mean: an
    # infinite gradient g becomes NaN there. The rest is alike to the sign.
    alike = [np.isfinite] if (name, dtype) == ("adam_step", np.float64) else [np.isnan, np.sign]
    for what in expected:
        for kind in alike if math.isinf(bad) else [np.isnan]:
            a, b = (np.where(np.isfinite(o[what]), 0, o[what]) for o in (expected, found))
            np.testing.assert_array_equal(kind(a), kind(b), err_msg=what)
    # A ReLU's slope does not depend on how large h is: the NaN has been in the loss already.
    if math.isnan(bad) and (name, k) != ("relu_backward", 0):
        assert any(np.isnan(array).any() for array in found.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(VAE(12, (7,), 3).parameters))
def test_a_nan_in_the_weights_shows_in_the_loss(name: str, dtype: Any) -> None:
    vae = VAE(12, (7,), 3, dtype=dtype)
    vae.parameters[name].flat[0] = np.nan
    rng = np.random.default_rng(0)
    loss, _ = vae.loss_and_gradients(rng.random((4, 12)), rng.standard_normal((4, 3)))
    assert math.isnan(loss.loss)


# ------------------------------------------------------------------ exp and log1p


def relative_error(found: Array, exact: Array) -> float:
    return float(np.abs(found.astype(float) / exact - 1).max())


@needs_compiler
def test_the_compiled_exp_is_right_wherever_float32_has_it() -> None:
    """Reparameterization with mu = 0 and epsilon = 1 is exp(log_var / 2)."""
    for limit, allowed in ((43.0, 2e-7), (87.0, 4e-7)):
        a = np.linspace(-limit, limit, 100_001, dtype=np.float32).reshape(1, -1)
        out = np.empty_like(a)
        reparameterize(np.zeros_like(a), 2 * a, np.ones_like(a), out)
        assert relative_error(out, np.exp(a.astype(float))) < allowed


@needs_compiler
def test_the_compiled_log1p_is_right_wherever_it_is_used() -> None:
    """BCE of one black pixel at a negative logit is log1p(exp(logit))."""
    logits = np.linspace(-86, 0, 100_001, dtype=np.float32).reshape(-1, 1)
    bce = bce_with_logits(logits, np.zeros_like(logits))
    assert relative_error(bce, np.log1p(np.exp(logits[:, 0].astype(float)))) < 5e-7


def test_exp_and_log1p_as_plain_python() -> None:
    """Without fused multiply-adds the reduction by n log 2 costs |a| * 6e-8."""
    a = np.linspace(-87, 88, 1001, dtype=np.float32)
    exp = np.array([kernels.exp(value) for value in a])
    assert (np.abs(exp / np.exp(a.astype(float)) - 1) < 1e-7 + 6e-8 * np.abs(a)).all()
    b = np.linspace(0, 1, 1001, dtype=np.float32)[1:]
    log1p = np.array([kernels.log1p(value) for value in b])
    assert relative_error(log1p, np.log1p(b.astype(float))) < 3e-7
    assert {exp.dtype, log1p.dtype} == {np.dtype(np.float32)}


def test_exp_at_the_ends_of_its_range() -> None:
    exp = [float(kernels.exp(np.float32(a))) for a in (0, 89, 1000, np.inf, -88, -1000, -np.inf)]
    assert exp[0] == 1
    assert exp[1:4] == 3 * [math.inf]
    assert all(0 <= value < 2e-38 for value in exp[4:])
    assert kernels.log1p(np.float32(0)) == 0


# ------------------------------------------------------------------ falling back


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Fused]:
    """A function that makes `bias_relu` anew, as a new process would, and forgets it afterwards."""
    monkeypatch.setattr(Fused, "all", list(Fused.all))
    monkeypatch.setattr(Fused, "warned", False)
    return lambda: Fused(FUSED["bias_relu"].specification)


def works_with_warnings(fused: Fused) -> list[str]:
    """Calls it twice, checks the result, and returns the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            out = np.array([[1.0, -5.0], [2.0, 3.0]], np.float32)
            fused(out, np.array([0.5, 1.0], np.float32))
            np.testing.assert_array_equal(out, [[1.5, 0], [2.5, 4]])
    return [str(warning.message) for warning in caught]


def cannot(*_: object) -> None:
    raise RuntimeError("no such thing\nand a traceback of 50 lines")


NO_SUCH_THING = "the cache of compiled kernels does not work: RuntimeError: no such thing"


def test_a_version_that_fails_gives_way_to_the_next(fresh: Callable[[], Fused]) -> None:
    fused = fresh()
    fused.ready, fused.versions = True, [cannot, fused.loop, fused.specification]
    assert works_with_warnings(fused) == [NO_SUCH_THING]
    assert fused.versions == [fused.loop, fused.specification]
    assert works_with_warnings(fused) == []


def test_where_all_versions_fail_the_specification_runs(fresh: Callable[[], Fused]) -> None:
    fused = fresh()
    fused.ready, fused.versions = True, [cannot, cannot, fused.specification]
    assert works_with_warnings(fused) == [NO_SUCH_THING]
    assert fused.versions == [fused.specification]


def test_a_version_that_has_worked_is_kept(fresh: Callable[[], Fused]) -> None:
    """What fails then are the arguments: the specification says what is wrong with them."""
    fused = fresh()

    def particular(out: Array, b: Array) -> None:
        if len(b) != 2:
            raise RuntimeError
        fused.loop(out, b)

    fused.ready, fused.versions = True, [particular, fused.specification]
    assert works_with_warnings(fused) == []
    with pytest.raises(ValueError, match="broadcast"):
        fused(np.zeros((1, 2), np.float32), np.zeros(3, np.float32))
    assert fused.versions == [particular, fused.specification]
    assert works_with_warnings(fused) == []


def test_several_functions_that_fail_alike_warn_once(fresh: Callable[[], Fused]) -> None:
    """As with a damaged cache: one line says it for all of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        one, other = fresh(), fresh()
        for fused in (one, other):
            fused.ready, fused.versions = True, [cannot, cannot, fused.specification]
        one(np.ones((2, 2)), np.ones(2))
        other(np.ones((2, 2)), np.ones(2))
    assert len(caught) == 1


def test_an_error_of_the_specification_itself_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        FUSED["bias_relu"].specification(np.zeros((2, 3)), np.zeros(2))


# ------------------------------------------------------------------ the cache of compiled code


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of our own, instead of the one beside the source."""
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_compiler
def test_the_cache_is_used(cache: Path, fresh: Callable[[], Fused]) -> None:
    first = fresh()
    first.prepare()
    assert not list(cache.rglob("*.nb?"))  # nothing is compiled before the first call
    assert works_with_warnings(first) == []
    assert len(list(cache.rglob("*.nbi"))) == len(list(cache.rglob("*.nbc"))) == 1
    second = fresh()
    assert works_with_warnings(second) == []
    stats = getattr(second.versions[0], "stats")  # noqa: B009
    assert (sum(stats.cache_hits.values()), sum(stats.cache_misses.values())) == (1, 0)


@needs_compiler
def test_workers_may_all_be_the_first_to_call(cache: Path, fresh: Callable[[], Fused]) -> None:
    fused, barrier = fresh(), threading.Barrier(4, timeout=10)

    def work(k: int) -> Array:
        out = np.full((2, 3), float(k), np.float32)
        barrier.wait()
        fused(out, np.ones(3, np.float32))
        return out

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    for k, result in enumerate(results):
        np.testing.assert_array_equal(result, k + 1)
    assert len(fused.versions) == 3  # none has been given up
    assert not Fused.warned


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "garbage": lambda data: b"\x93garbage" * 50,
    "half": lambda data: data[: len(data) // 2],
}


@needs_compiler
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_file_costs_a_warning(
    cache: Path, fresh: Callable[[], Fused], damage: Callable[[bytes], bytes], kind: str
) -> None:
    fresh()(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    (file,) = cache.rglob(f"*.{kind}")
    file.write_bytes(damage(file.read_bytes()))
    said = works_with_warnings(fresh())
    assert len(said) <= 1
    assert all(text.startswith("the cache of compiled kernels does not work: ") for text in said)
    assert all("\n" not in text for text in said)
    Fused.warned = False
    works_with_warnings(fresh())  # what was damaged is gone: this one writes it anew
    healed = fresh()
    assert works_with_warnings(healed) == []
    stats = getattr(healed.versions[0], "stats")  # noqa: B009
    assert (sum(stats.cache_hits.values()), sum(stats.cache_misses.values())) == (1, 0)


@needs_compiler
def test_a_cache_file_that_leads_nowhere_is_none(
    cache: Path, fresh: Callable[[], Fused], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one that another process removes between the listing and the look."""
    fresh()(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    (file,) = cache.rglob("*.nbi")
    assert fresh().in_cache()
    file.unlink()
    file.symlink_to("nothing")
    assert not fresh().in_cache()


@needs_compiler
def test_a_full_disk_costs_a_warning(
    cache: Path, fresh: Callable[[], Fused], monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core import caching

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    (said,) = works_with_warnings(fresh())
    assert "No space left on device" in said


@needs_compiler
def test_a_cache_folder_that_cannot_be_made(
    tmp_path: Path, fresh: Callable[[], Fused], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is where the folder should be: the compiler takes another place."""
    import numba

    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert works_with_warnings(fresh()) == []
    assert (tmp_path / "file").read_bytes() == b""


@needs_compiler
def test_no_cache_folder_anywhere(
    fresh: Callable[[], Fused], monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", full_disk)
    fused = fresh()
    assert works_with_warnings(fused) == []
    assert len(fused.versions) == 2  # compiled for this run alone, and the specification


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@needs_compiler
def test_a_folder_that_everybody_may_write_to_is_no_cache(
    cache: Path, fresh: Callable[[], Fused]
) -> None:
    fresh()(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    (folder,) = {file.parent for file in cache.rglob("*.nbi")}
    for file in folder.iterdir():
        file.write_bytes(b"planted")
    folder.chmod(0o777)
    fused = fresh()
    assert works_with_warnings(fused) == []
    assert len(fused.versions) == 2
    assert {file.read_bytes() for file in folder.iterdir()} == {b"planted"}


@needs_compiler
def test_a_folder_to_be_made_where_everybody_may_write_is_no_cache(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o1777)
    assert jit.others_may_write(str(cache / "not yet" / "there"))
    cache.chmod(0o755)
    assert not jit.others_may_write(str(cache / "not yet" / "there"))


@needs_compiler
def test_the_folder_of_somebody_else_is_no_cache(cache: Path, fresh: Callable[[], Fused]) -> None:
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    fresh()(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    (folder,) = {file.parent for file in cache.rglob("*.nbi")}
    os.chown(folder, 12345, 12345)
    fused = fresh()
    fused.prepare()
    assert len(fused.versions) == 2


# ------------------------------------------------------------------ without Numba, and on import


def module_anew() -> dict[str, Any]:
    """jit.py run once more, beside the one in use."""
    return runpy.run_path(jit.__file__)


def test_a_missing_numba_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPVAE_BACKEND", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    module = module_anew()
    assert module["BACKEND"] == "numpy"
    assert module["WHY_NUMPY"].startswith("Numba cannot be used: ModuleNotFoundError: ")
    assert "\n" not in module["WHY_NUMPY"]


def test_a_backend_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", "cuda")
    with pytest.raises(OptionError, match="NPVAE_BACKEND must be numba or numpy, not 'cuda'"):
        module_anew()


def test_a_numba_that_fails_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError")
    monkeypatch.delenv("NPVAE_BACKEND", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert module_anew()["BACKEND"] == "numpy"


CHILD = """
import json, os, sys
environment = dict(os.environ)
import npvae
early = [name for name in ("numpy", "numba", "PIL") if name in sys.modules]
from npvae import VAE
from npvae.fast.jit import BACKEND, WHY_NUMPY, Fused
ready = [fused.__name__ for fused in Fused.all if fused.ready]
same = environment == dict(os.environ)
import numpy as np
rng = np.random.default_rng(0)
loss, gradients = VAE(12, (7,), 3).loss_and_gradients(rng.random((5, 12)), np.ones((5, 3)))
print(json.dumps([early, ready, same, BACKEND, WHY_NUMPY, loss[:2], float(gradients.flat.sum())]))
"""


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[Any], str]]:
    """What child processes say in four environments; they run at the same time."""
    broken = tmp_path_factory.mktemp("broken")
    (broken / "numba").mkdir()
    (broken / "numba" / "__init__.py").write_text("raise SystemError('built for another CPU')")
    root = str(Path(jit.__file__).parents[2])
    environments = {
        "plain": {},
        "numpy": {"NPVAE_BACKEND": "numpy"},
        "no jit": {"NUMBA_DISABLE_JIT": "1"},
        "broken": {"PYTHONPATH": os.pathsep.join([str(broken), root])},
    }
    inherited = {**os.environ, "PYTHONPATH": root}
    for name in ("NPVAE_BACKEND", "NUMBA_DISABLE_JIT"):
        inherited.pop(name, None)
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", CHILD],
            env={**inherited, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, environment in environments.items()
    }
    said = {}
    for name, process in processes.items():
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said[name] = json.loads(out), err
    return said


ENVIRONMENTS = {
    "plain": "",
    "numpy": "NPVAE_BACKEND=numpy",
    "no jit": "NUMBA_DISABLE_JIT is set",
    "broken": "Numba cannot be used: SystemError: built for another CPU",
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_same_numbers_with_and_without_numba(
    name: str, children: dict[str, tuple[list[Any], str]]
) -> None:
    (_, _, _, backend, why, (bce, kl), total), err = children[name]
    if name == "broken" or "ModuleNotFoundError" not in why:  # there may be no Numba
        assert (backend, why) == ("numpy" if why else "numba", ENVIRONMENTS[name])
    rng = np.random.default_rng(0)
    loss, gradients = VAE(12, (7,), 3).loss_and_gradients(rng.random((5, 12)), np.ones((5, 3)))
    assert (bce, kl) == pytest.approx(loss[:2], rel=1e-5)
    assert total == pytest.approx(float(gradients.flat.sum()), rel=1e-5, abs=1e-6)
    assert err == ""


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_import_is_quiet(name: str, children: dict[str, tuple[list[Any], str]]) -> None:
    (early, ready, environment_is_the_same, backend, *_), _ = children[name]
    assert early == []  # `import npvae` alone brings in none of the heavy packages
    if backend == "numba":
        assert ready == []  # nothing is compiled before it is called
    assert environment_is_the_same


ONE_KERNEL = """
import numpy as np
from npvae.layers import bias_relu
out = np.array([[1.0, -5.0]], np.float32)
bias_relu(out, np.ones(2, np.float32))
assert out.tolist() == [[2, 0]]
print(len(bias_relu.versions))
"""


@needs_compiler
@pytest.mark.parametrize(
    "program", [ONE_KERNEL, pytest.param(CHILD, marks=pytest.mark.slow)], ids=["one", "all"]
)
def test_two_cold_processes_at_once(program: str, tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["NPVAE_BACKEND"] = "numba"
    environment["PYTHONPATH"] = str(Path(jit.__file__).parents[2])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1]
    assert said[0][1] == ""
    assert program == CHILD or said[0][0] == "3\n"  # neither has given a version up
    assert list((tmp_path / "cache").rglob("*.nbc"))
