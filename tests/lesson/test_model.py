"""The model's public face: names, shapes, and what it does with what it should not be given."""

import copy
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import VAE
from npvae.core.errors import CheckpointError
from npvae.storage import checkpoint
from tests.helpers import Said, refused

EPSILON = np.random.default_rng(1).standard_normal((5, 3))
X = np.random.default_rng(0).random((5, 12))
NETWORKS: list[tuple[str, Sequence[int]]] = [
    ("float32", (7,)),
    ("float64", (7, 6)),
    ("float32", [8, 5, 4]),
]


def small_vae(dtype: Any = np.float32, hidden_dims: Sequence[int] = (7,), seed: int = 0) -> VAE:
    return VAE(12, hidden_dims, 3, dtype=dtype, rng=seed)


# ------------------------------------------------------------------ names and shapes


def test_parameters_have_names_and_shapes_in_the_order_of_the_data(said: Said) -> None:
    models = {
        "by default": VAE(),
        "deep": VAE(784, (512, 256, 64), 2),
        "conditional": VAE(12, (7, 6), 3, num_classes=4, dtype="float64"),
    }
    said("parameters of models", {name: repr(vae.parameters) for name, vae in models.items()})
    for vae in models.values():
        assert list(vae.gradients.shapes.items()) == list(vae.parameters.shapes.items())


@pytest.mark.parametrize(("dtype", "hidden_dims"), NETWORKS)
def test_shapes_and_dtypes_of_everything(dtype: str, hidden_dims: Sequence[int]) -> None:
    vae = small_vae(dtype, hidden_dims)
    a = vae.forward(X.astype(dtype), EPSILON.astype(dtype))
    d = vae.backward(a)
    mu, log_var = vae.encode(X)
    x_hat, made_up = vae.decode(mu), vae.sample(6, np.random.default_rng(0))
    for array in (a.x, a.logits, d.d_logits, d.d_x, x_hat, made_up[:5]):
        assert array.shape == (5, 12)
    for array in (a.epsilon, a.mu, a.log_var, a.z, d.d_z, d.d_mu, d.d_log_var, mu, log_var):
        assert array.shape == (5, 3)
    for hidden in (a.y_enc, a.h_enc, a.y_dec[::-1], a.h_dec[::-1]):
        assert [h.shape for h in hidden] == [(5, size) for size in hidden_dims]
    assert d.d_h_enc.shape == a.h_enc[-1].shape
    assert d.d_h_dec.shape == a.h_dec[-1].shape
    arrays = [array for array in (*a, *d) if isinstance(array, np.ndarray)]
    arrays += [*a.y_enc, *a.h_enc, *a.y_dec, *a.h_dec, mu, log_var, x_hat, made_up]
    assert all(array.dtype == dtype for array in arrays)
    loss, gradients = vae.loss_and_gradients(X, EPSILON, beta=0.5)
    assert all(type(part) is float for part in (loss.bce, loss.kl, loss.loss, loss.elbo))
    assert gradients.flat.dtype == dtype
    assert all(gradients[name].any() for name in gradients)
    assert vae.hidden_dims == tuple(hidden_dims)


def test_loss_and_gradients_are_forward_objective_and_backward() -> None:
    vae = small_vae(float)
    loss, gradients = vae.loss_and_gradients(X, EPSILON, 0.5)
    a = vae.forward(X, EPSILON)
    vae.backward(a, 0.5)
    assert vae.objective(a, 0.5) == loss == vae.loss(X, EPSILON, 0.5)
    np.testing.assert_array_equal(vae.gradients.flat, gradients.flat)


# ------------------------------------------------------------------ what is live and what is not


def is_one_network(vae: VAE) -> bool:
    """Whether `parameters` and `gradients` are what its layers compute with."""
    twin = VAE(**vae.settings)
    twin.parameters.update(vae.parameters)
    (loss, gradients), expected = (v.loss_and_gradients(X, EPSILON) for v in (vae, twin))
    arrays = zip(vae.layers, list(vae.parameters.values())[::2], strict=True)
    return (
        loss == expected[0]
        and gradients.flat.tobytes() == expected[1].flat.tobytes() == vae.gradients.flat.tobytes()
        and all(layer.W is W and np.shares_memory(W, vae.parameters.flat) for layer, W in arrays)
    )


@pytest.mark.parametrize(
    "statement",
    [
        "vae.parameters['encoder.mu.b'] += 1; best = copy.deepcopy(vae)",
        "vae.parameters['encoder.mu.b'] = 1; best = copy.deepcopy(vae)",
        "vae.parameters = best.parameters",
        "vae.parameters = dict(reversed(best.parameters.items()))",
        "vae.parameters |= best.parameters",
        "vae.parameters.update(best.parameters)",
        "vae.parameters.flat = best.parameters.flat",
        "for one, other in zip(vae.layers, best.layers): one.W, one.b = other.W, other.b",
        "vae.encoder.layers[0].W *= 2; vae.to_mu.b = 1; best = copy.deepcopy(vae)",
        "vae.parameters.flat *= 2; vae.gradients = best.gradients; best = copy.deepcopy(vae)",
    ],
)
def test_what_is_assigned_is_copied_into_the_network(statement: str) -> None:
    names: dict[str, Any] = {"vae": small_vae(), "best": small_vae(seed=1), "copy": copy}
    exec(statement, names)
    vae, best = names["vae"], names["best"]
    assert vae.parameters.flat.tobytes() == best.parameters.flat.tobytes()
    assert vae.loss(X, EPSILON) != small_vae().loss(X, EPSILON)
    assert is_one_network(vae)
    best.parameters.flat[:] = 0
    assert vae.parameters.flat.any()


FIXED = {
    "vae.activation = 'tanh'": "activation is fixed",
    "vae.latent_dim = 5": "latent_dim is fixed",
    "vae.hidden_dims += (5,)": "hidden_dims is fixed",
    "vae.dtype = float": "dtype is fixed",
    "vae.to_mu = best.to_mu": "to_mu is fixed",
    "vae.encoder = best.encoder": "encoder is fixed",
    "vae.encoder.activation = best.decoder": "activation is fixed",
    "vae.encoder.layers[0] = best.to_mu": "does not support item assignment",
    "vae.layers = ()": "layers is fixed",
    "del vae.gradients": "gradients is fixed",
    "del vae.parameters['encoder.mu.W']": "names are fixed",
    "vae.parameters = best": "parameters holds arrays by name: assign a mapping, not VAE",
    "vae.parameters = {'encoder.mu.b': 1}": "parameters needs all its names at once",
    "vae.gradients = {**best.gradients, 'encoder.mu.b': [0, 0]}": "mu.b has shape (3,), not (2,)",
    "vae.to_mu.W = best.to_mu.W.T": "W has shape (7, 3), not (3, 7)",
}


@pytest.mark.parametrize(("statement", "message"), FIXED.items(), ids=FIXED)
def test_parts_that_others_were_built_from_are_not_replaced(statement: str, message: str) -> None:
    names: dict[str, Any] = {"vae": small_vae(), "best": small_vae(seed=1)}
    with refused(Exception, message) as refusal:
        exec(statement, names)
    assert refusal.type in (AttributeError, TypeError, ValueError)
    assert names["vae"].parameters.flat.tobytes() == small_vae().parameters.flat.tobytes()
    assert is_one_network(names["vae"])


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_a_copy_has_everything_and_shares_nothing(copied: Callable[[VAE], Any]) -> None:
    vae = small_vae()
    vae.note = "mine"
    vae.loss_and_gradients(X, EPSILON)
    twin = copied(vae)
    assert twin.note == "mine"
    for one, other in ((twin.parameters, vae.parameters), (twin.gradients, vae.gradients)):
        assert one.flat.tobytes() == other.flat.tobytes()
        assert not np.shares_memory(one.flat, other.flat)
    assert is_one_network(twin)


def test_results_are_copies_and_looking_changes_nothing() -> None:
    vae, codes = small_vae(), EPSILON.astype(np.float32)
    results = [vae.loss_and_gradients(X, EPSILON)[1].flat, *vae.encode(X), vae.decode(codes)]
    kept = [result.copy() for result in results]
    parameters, gradients = vae.parameters.copy(), vae.gradients.copy()
    vae.sample(3, np.random.default_rng(0))
    vae.loss(1 - X, EPSILON)
    vae.encode(1 - X)
    vae.decode(1 - codes)
    np.testing.assert_array_equal(vae.parameters.flat, parameters.flat)
    np.testing.assert_array_equal(vae.gradients.flat, gradients.flat)
    _, others = vae.loss_and_gradients(1 - X, EPSILON)
    for result, before in zip(results, kept, strict=True):
        np.testing.assert_array_equal(result, before)
    others.flat[:] = 7
    assert (vae.gradients.flat != 7).all()
    assert (vae.gradients.flat != gradients.flat).any()


def test_two_models_share_nothing_and_begin_with_the_seed_0() -> None:
    one, other = VAE(12, (7,), 3), small_vae(seed=0)
    np.testing.assert_array_equal(one.parameters.flat, other.parameters.flat)
    one.parameters.flat[:] = 0
    assert other.parameters.flat.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_dim": 0}, "sizes must be whole numbers above 0, not 0"),
        ({"latent_dim": -1}, "sizes must be whole numbers above 0, not -1"),
        ({"hidden_dims": (128, 0)}, "sizes must be whole numbers above 0, not 0"),
        ({"hidden_dims": (12.5,)}, "sizes must be whole numbers above 0, not 12.5"),
        ({"hidden_dims": ()}, "hidden_dims must be a sequence such as (128,), not ()"),
        ({"hidden_dims": 128}, "hidden_dims must be a sequence such as (128,), not 128"),
        ({"activation": "step"}, "activation must be one of relu"),
        ({"dtype": np.float16}, "dtype must be float32 or float64, not"),
        ({"dtype": "banana"}, "dtype must be float32 or float64, not banana"),
        ({"dtype": int}, "dtype must be float32 or float64, not"),
    ],
)
def test_models_that_cannot_be_built_are_refused(settings: dict[str, Any], message: str) -> None:
    with refused(ValueError, message):
        VAE(**settings)


# ------------------------------------------------------------------ save and load


@pytest.mark.parametrize(("dtype", "hidden_dims"), NETWORKS)
def test_save_and_load_to_the_bit(tmp_path: Path, dtype: str, hidden_dims: Sequence[int]) -> None:
    """Also from a checkpoint that holds more than a model."""
    vae, path, more = small_vae(dtype, hidden_dims, 3), tmp_path / "vae.npz", tmp_path / "more.npz"
    vae.save(path)
    arrays = {**vae.parameters, "adam.m.all": np.ones(5, np.float32)}
    checkpoint.save(more, {"model": vae.settings, "epoch": 3}, arrays)
    for loaded in (VAE.load(str(path)), VAE.load(more)):
        assert loaded.settings == vae.settings
        assert list(loaded.parameters) == list(vae.parameters)
        assert loaded.parameters.flat.dtype == dtype
        assert loaded.parameters.flat.tobytes() == vae.parameters.flat.tobytes()
        assert is_one_network(loaded)
        loaded.parameters.flat[:] = 0  # alive, and not tied to the file


def test_sizes_may_be_numpy_integers(tmp_path: Path) -> None:
    three: Any = np.int64(3)
    vae = VAE(12, tuple(np.array([7])), three)
    vae.save(tmp_path / "model.npz")
    assert VAE.load(tmp_path / "model.npz").settings == vae.settings


SETTINGS = small_vae().settings
NOT_OURS, UNFIT = "its header is not one that npvae writes", "its arrays do not fit its settings"
NOT_A_VAE: dict[str, tuple[Any, str]] = {  # what the header says of the model, beside its arrays
    "a list": ([1, 2], NOT_OURS),
    "nothing": (None, NOT_OURS),
    "a huge size": ({**SETTINGS, "input_dim": 10**15}, UNFIT),
    "a size in words": ({**SETTINGS, "latent_dim": "three"}, NOT_OURS),
    "an unknown activation": ({**SETTINGS, "activation": "step"}, "activation must be one of relu"),
    "without a size": ({k: v for k, v in SETTINGS.items() if k != "latent_dim"}, NOT_OURS),
}


@pytest.mark.parametrize(("model", "words"), NOT_A_VAE.values(), ids=NOT_A_VAE)
def test_a_sound_checkpoint_of_something_else_is_refused(
    tmp_path: Path, model: Any, words: str
) -> None:
    path = tmp_path / "other.npz"
    checkpoint.save(path, {"model": model}, small_vae().parameters)
    with refused(CheckpointError, "other.npz", words):
        VAE.load(path)
