"""The model's public face: names, shapes, and what it does with what it should not be given."""

import copy
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import VAE, Adam
from npvae.core.errors import CheckpointError
from npvae.core.parameters import NamedArrays
from npvae.storage import checkpoint
from tests.helpers import refused

DTYPES = [np.float32, np.float64]
EPSILON = np.random.default_rng(1).standard_normal((5, 3))
X = np.random.default_rng(0).random((5, 12))


def small_vae(dtype: Any = np.float32, hidden_dims: Sequence[int] = (7,), seed: int = 0) -> VAE:
    return VAE(12, hidden_dims, 3, dtype=dtype, rng=np.random.default_rng(seed))


# ------------------------------------------------------------------ names and shapes


def test_the_parameters_of_the_default_model() -> None:
    assert {name: array.shape for name, array in VAE().parameters.items()} == {
        "encoder.hidden0.W": (784, 128),
        "encoder.hidden0.b": (128,),
        "encoder.mu.W": (128, 10),
        "encoder.mu.b": (10,),
        "encoder.log_var.W": (128, 10),
        "encoder.log_var.b": (10,),
        "decoder.hidden0.W": (10, 128),
        "decoder.hidden0.b": (128,),
        "decoder.logits.W": (128, 784),
        "decoder.logits.b": (784,),
    }


def test_the_parameters_of_a_deep_model_in_the_order_of_the_data() -> None:
    vae = VAE(784, (512, 256, 64), 2)
    assert list(vae.parameters) == list(vae.gradients)
    assert {name: shape for name, shape in vae.parameters.shapes.items() if name.endswith("W")} == {
        "encoder.hidden0.W": (784, 512),
        "encoder.hidden1.W": (512, 256),
        "encoder.hidden2.W": (256, 64),
        "encoder.mu.W": (64, 2),
        "encoder.log_var.W": (64, 2),
        "decoder.hidden0.W": (2, 64),
        "decoder.hidden1.W": (64, 256),
        "decoder.hidden2.W": (256, 512),
        "decoder.logits.W": (512, 784),
    }
    order = [name.removesuffix(".W") for name in vae.parameters if name.endswith("W")]
    assert order[:3] == ["encoder.hidden0", "encoder.hidden1", "encoder.hidden2"]
    assert order[3:6] == ["encoder.mu", "encoder.log_var", "decoder.hidden0"]
    assert order[6:] == ["decoder.hidden1", "decoder.hidden2", "decoder.logits"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden_dims", [(7,), (7, 6), [8, 5, 4]])
def test_shapes_and_dtypes_of_everything(hidden_dims: Sequence[int], dtype: Any) -> None:
    vae = small_vae(dtype, hidden_dims)
    mu, log_var = vae.encode(X)
    x_hat, made_up = vae.decode(mu), vae.sample(6, np.random.default_rng(0))
    loss, gradients = vae.loss_and_gradients(X, EPSILON, beta=0.5)
    assert mu.shape == log_var.shape == (5, 3)
    assert (x_hat.shape, made_up.shape) == ((5, 12), (6, 12))
    assert all(array.dtype == dtype for array in (mu, log_var, x_hat, made_up, gradients.flat))
    assert all(type(part) is float for part in (loss.bce, loss.kl, loss.loss, loss.elbo))
    assert {k: a.shape for k, a in gradients.items()} == vae.parameters.shapes
    assert all(gradients[name].any() for name in gradients)
    assert vae.hidden_dims == tuple(hidden_dims)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden_dims", [(7,), (7, 6), (8, 5, 4)])
def test_every_activation_has_the_shape_its_comment_says(
    hidden_dims: tuple[int, ...], dtype: Any
) -> None:
    vae = small_vae(dtype, hidden_dims)
    a = vae.forward(X.astype(dtype), EPSILON.astype(dtype))
    d = vae.backward(a)
    assert a.x.shape == a.logits.shape == d.d_logits.shape == d.d_x.shape == (5, 12)
    assert a.epsilon.shape == a.mu.shape == a.log_var.shape == a.z.shape == (5, 3)
    assert d.d_z.shape == d.d_mu.shape == d.d_log_var.shape == (5, 3)
    for hidden in (a.y_enc, a.h_enc):
        assert [h.shape for h in hidden] == [(5, size) for size in hidden_dims]
    for hidden in (a.y_dec, a.h_dec):
        assert [h.shape for h in hidden] == [(5, size) for size in reversed(hidden_dims)]
    assert d.d_h_enc.shape == a.h_enc[-1].shape
    assert d.d_h_dec.shape == a.h_dec[-1].shape
    lists = [*a.y_enc, *a.h_enc, *a.y_dec, *a.h_dec]
    arrays = [array for array in (*a, *d) if isinstance(array, np.ndarray)]
    assert all(array.dtype == dtype for array in (*arrays, *lists))


def test_loss_and_gradients_are_forward_objective_and_backward() -> None:
    vae = small_vae(float)
    loss, gradients = vae.loss_and_gradients(X, EPSILON, 0.5)
    a = vae.forward(X, EPSILON)
    vae.backward(a, 0.5)
    assert vae.objective(a, 0.5) == loss == vae.loss(X, EPSILON, 0.5)
    np.testing.assert_array_equal(vae.gradients.flat, gradients.flat)


# ------------------------------------------------------------------ what is live and what is not


@pytest.mark.parametrize(
    "change",
    [
        lambda parameters: parameters["encoder.mu.b"].__iadd__(1),
        lambda parameters: parameters.__setitem__("encoder.mu.b", 1),
        lambda parameters: parameters.flat.__iadd__(0.1),
    ],
)
def test_parameters_are_live(change: Callable[[NamedArrays], object]) -> None:
    vae = small_vae()
    before, _ = vae.encode(X)
    change(vae.parameters)
    assert (vae.encode(X)[0] != before).any()


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
    assert vae.parameters.flat.tobytes() != small_vae().parameters.flat.tobytes()
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
def test_what_others_were_built_from_is_not_replaced(statement: str, message: str) -> None:
    names: dict[str, Any] = {"vae": small_vae(), "best": small_vae(seed=1)}
    with pytest.raises((AttributeError, TypeError, ValueError)) as refusal:
        exec(statement, names)
    assert message in str(refusal.value)
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


@pytest.mark.parametrize("name", list(small_vae().parameters))
def test_every_parameter_matters(name: str) -> None:
    vae = small_vae(float)
    before = vae.loss(X, EPSILON)
    vae.parameters[name] += 0.1
    assert vae.loss(X, EPSILON) != before


def test_gradients_are_a_copy() -> None:
    vae = small_vae()
    _, first = vae.loss_and_gradients(X, EPSILON)
    kept = first.flat.copy()
    _, second = vae.loss_and_gradients(1 - X, EPSILON)
    np.testing.assert_array_equal(first.flat, kept)
    assert not np.shares_memory(first.flat, vae.gradients.flat)
    assert (second.flat != kept).any()
    second.flat[:] = 7
    assert (vae.gradients.flat != 7).all()


def test_looking_changes_nothing() -> None:
    vae = small_vae()
    vae.loss_and_gradients(X, EPSILON)
    parameters, gradients = vae.parameters.copy(), vae.gradients.copy()
    mu, log_var = vae.encode(X)
    kept = mu.copy(), log_var.copy()
    x_hat = vae.decode(mu)
    vae.sample(3, np.random.default_rng(0))
    vae.loss(X, EPSILON)
    vae.encode(1 - X)
    np.testing.assert_array_equal(vae.parameters.flat, parameters.flat)
    np.testing.assert_array_equal(vae.gradients.flat, gradients.flat)
    np.testing.assert_array_equal((mu, log_var), kept)  # results are nobody's scratch paper
    np.testing.assert_array_equal(vae.decode(mu), x_hat)


def test_two_models_share_nothing() -> None:
    one, other = small_vae(), small_vae()
    np.testing.assert_array_equal(one.parameters.flat, other.parameters.flat)
    one.parameters.flat[:] = 0
    assert other.parameters.flat.any()


def test_a_step_of_adam_makes_the_loss_smaller() -> None:
    vae = small_vae(float)
    before, gradients = vae.loss_and_gradients(X, EPSILON)
    Adam(learning_rate=1e-4).update(vae.parameters, gradients)
    assert vae.loss(X, EPSILON).loss < before.loss


def test_one_image_is_a_batch_of_one() -> None:
    vae = small_vae(float)
    mu, _ = vae.encode(X[:1])
    np.testing.assert_allclose(mu, vae.encode(X)[0][:1], rtol=1e-13, atol=1e-15)


# ------------------------------------------------------------------ what it is built from


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
def test_what_cannot_be_built_is_refused(settings: dict[str, Any], message: str) -> None:
    with refused(ValueError, message):
        VAE(**settings)


def test_without_a_generator_the_seed_is_0() -> None:
    np.testing.assert_array_equal(
        VAE(12, (7,), 3).parameters.flat,
        VAE(12, (7,), 3, rng=np.random.default_rng(0)).parameters.flat,
    )


# ------------------------------------------------------------------ save and load


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden_dims", [(7,), (7, 6, 5)])
def test_save_and_load_to_the_bit(tmp_path: Path, hidden_dims: tuple[int, ...], dtype: Any) -> None:
    vae, path = small_vae(dtype, hidden_dims, seed=3), tmp_path / "model.npz"
    vae.save(path)
    loaded = VAE.load(str(path))
    assert loaded.settings == vae.settings
    assert list(loaded.parameters) == list(vae.parameters)
    assert loaded.parameters.flat.dtype == dtype
    assert loaded.parameters.flat.tobytes() == vae.parameters.flat.tobytes()
    assert loaded.loss_and_gradients(X, EPSILON)[0] == vae.loss_and_gradients(X, EPSILON)[0]
    loaded.parameters.flat[:] = 0  # alive, and not tied to the file
    assert not loaded.encode(X)[0].any()


def test_sizes_may_be_numpy_integers(tmp_path: Path) -> None:
    three: Any = np.int64(3)
    vae = VAE(12, tuple(np.array([7])), three)
    vae.save(tmp_path / "model.npz")
    assert VAE.load(tmp_path / "model.npz").settings == vae.settings


def without(settings: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


SETTINGS = small_vae().settings
NOT_A_VAE: dict[str, Any] = {
    "no model": {},
    "a model that is a list": {"model": [1, 2]},
    "a model that is nothing": {"model": None},
    "other sizes": {"model": {**SETTINGS, "latent_dim": 4}},
    "another depth": {"model": {**SETTINGS, "hidden_dims": [7, 6]}},
    "a huge size": {"model": {**SETTINGS, "input_dim": 10**15}},
    "a negative size": {"model": {**SETTINGS, "latent_dim": -3}},
    "a size in words": {"model": {**SETTINGS, "latent_dim": "three"}},
    "another dtype": {"model": {**SETTINGS, "dtype": "float64"}},
    "no dtype at all": {"model": {**SETTINGS, "dtype": "banana"}},
    "an unknown activation": {"model": {**SETTINGS, "activation": "step"}},
    "without a size": {"model": without(SETTINGS, "latent_dim")},
    "with settings from the future": {"model": {**SETTINGS, "dropout": 0.5}},
}


@pytest.mark.parametrize("header", NOT_A_VAE.values(), ids=NOT_A_VAE)
def test_a_sound_checkpoint_of_something_else_is_refused(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "other.npz"
    checkpoint.save(path, header, small_vae().parameters)
    with refused(CheckpointError, "other.npz"):
        VAE.load(path)


def test_a_checkpoint_may_hold_more_than_a_model(tmp_path: Path) -> None:
    vae, path = small_vae(seed=4), tmp_path / "more.npz"
    arrays = {**vae.parameters, "adam.m.all": np.ones(5, np.float32)}
    checkpoint.save(path, {"model": vae.settings, "epoch": 3}, arrays)
    np.testing.assert_array_equal(VAE.load(path).parameters.flat, vae.parameters.flat)
