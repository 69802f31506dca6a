"""The gradient check passes, covers everything, and fails when it should.

The negative controls plant one mistake each and expect the check to find it, and to name it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npvae.gradcheck
import npvae.model
from npvae.core.architecture import parameter_shapes
from npvae.core.parameters import Array, NamedArrays
from npvae.gradcheck import (
    STEP,
    TOLERANCE,
    Check,
    central_differences,
    check,
    check_activation,
    check_dense,
    check_everything,
    check_losses,
    check_mlp,
    check_model,
    check_reparameterize,
    draw_away_from_kinks,
    table,
)
from npvae.layers import ACTIVATIONS, LINEAR, Activation, Dense, linear_backward
from npvae.losses import Loss, bce_and_gradient, bce_with_logits_backward
from npvae.model import VAE, latent_gradients

RIGHT = 1.0
WRONG = 1.001  # by 0.1 %


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def failed(checks: list[Check]) -> list[str]:
    return [check.what for check in checks if not check.passed]


# ------------------------------------------------------------------ what is right


@pytest.fixture(scope="module")
def everything() -> list[Check]:
    return list(check_everything())


def test_every_gradient_is_right(everything: list[Check]) -> None:
    assert TOLERANCE <= 1e-7
    assert failed(everything) == [], table(everything)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_gradient_is_right_with_other_numbers(seed: int) -> None:
    checks = list(check_everything(seed))
    assert failed(checks) == [], table(checks)


def test_nothing_is_left_out(everything: list[Check]) -> None:
    entries = {check.what: check.entries for check in everything}
    assert len(entries) == len(everything), "two checks have the same name"
    for name in ACTIVATIONS:
        assert f"{name}: y" in entries
        assert {f"dense {name}: {part}" for part in ("W", "b", "x")} <= set(entries)
        for hidden_dims in ((7,), (7, 6)):
            title = f"vae {name} {'-'.join(map(str, hidden_dims))}"
            for parameter, shape in parameter_shapes(12, hidden_dims, 3).items():
                assert entries[f"{title}: {parameter}"] == np.prod(shape)
            assert entries[f"{title}: x"] == 5 * 12
            assert entries[f"{title}: epsilon"] == 5 * 3
    others = ["dense linear: W", "mlp: layer2.W", "mlp: x", "bce: logits"]
    others += ["bce and gradient: logits", "kl: mu", "kl: log_var"]
    others += ["reparameterize: mu", "reparameterize: log_var"]
    assert set(others) <= set(entries)


@pytest.mark.parametrize("factor", [RIGHT, WRONG])
def test_a_new_activation_is_covered_by_being_there(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    def forward(out: Array, b: Array) -> None:
        out += b
        out *= 0.5

    def backward(h: Array, out: Array) -> None:
        out *= 0.5 * factor

    monkeypatch.setitem(ACTIVATIONS, "halved", Activation(forward, backward))
    new = [check for check in check_everything() if "halved" in check.what]
    assert len(new) == 1 + 3 + (10 + 2) + (14 + 2)
    if factor == RIGHT:
        assert failed(new) == [], table(new)
    else:
        assert {"halved: y", "dense halved: W", "vae halved 7: x"} <= set(failed(new))


# ------------------------------------------------------------------ the instrument itself


def test_central_differences_by_hand_and_put_back() -> None:
    theta = np.array([[1.0, -2.0], [0.1, 0.3]])
    before = theta.copy()
    gradient = central_differences(lambda: float(np.sum(theta**3)), theta)
    # The error of a cube is step^2 = 1e-10, and that of rounding 8 * 1e-16 / 1e-5 = 1e-10.
    np.testing.assert_allclose(gradient, 3 * before**2, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(theta, before)


@pytest.mark.parametrize("near", [99 * STEP, -99 * STEP])
def test_parameters_are_drawn_until_no_unit_is_near_its_kink(near: float) -> None:
    parameters, draws = NamedArrays({"layer.b": (1,)}, float), [near, near, 101 * STEP, 7.0]

    class Dice(np.random.Generator):
        def normal(self, *_: Any) -> Any:
            return draws.pop(0)

    dice = Dice(np.random.PCG64(0))
    draw_away_from_kinks(lambda: np.maximum(parameters["layer.b"], 0), parameters, dice)
    assert parameters["layer.b"] == 101 * STEP  # put back as it was drawn
    assert draws == [7.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_no_number_is_wrong(bad: float) -> None:
    theta = np.ones(3)
    result = check("it", lambda: float(theta.sum()), theta, np.array([1.0, bad, 1.0]))
    assert not result.passed
    assert result.where == (1,)


def test_a_loss_that_is_no_number_is_wrong() -> None:
    assert not check("it", lambda: float("nan"), np.ones(3), np.ones(3)).passed


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"it: gradient \(3, 1\) for an array \(3,\)"):
        check("it", lambda: 0.0, np.ones(3), np.ones((3, 1)))


def test_the_table_says_what_is_wrong_and_where() -> None:
    right = Check("a thing", 6, 1e-10, (0, 1), 0.5, 0.5)
    wrong = Check("another thing", 4, 1e-3, (2,), 0.2502, 0.25)
    assert "WRONG" not in table([right])
    assert table([right]).splitlines()[-1].startswith("all 1 right: 6 entries")
    lines = table([right, wrong]).splitlines()
    assert lines[2].startswith("another thing")
    assert lines[2].endswith("WRONG")
    assert all(text in lines[2] for text in ("1.0e-03", "(2,)", "0.2502", "0.2500"))
    assert lines[-1].startswith("1 of 2 WRONG: 10 entries, worst relative error 1.0e-03")


# ------------------------------------------------------------------ mistakes in the model

PARAMETERS = list(parameter_shapes(12, (7, 6), 3))


def check_deep(make: Callable[..., VAE] = VAE) -> list[Check]:
    return list(check_model("relu", (7, 6), rng(), make=make))


def test_the_deep_model_as_it_is_passes() -> None:
    assert failed(check_deep()) == []


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_gradient_wrong_by_a_thousandth_is_found(name: str) -> None:
    class Mistaken(VAE):
        def backward(self, *arguments: Any, **named: Any) -> Loss:
            loss = super().backward(*arguments, **named)
            self.gradients[name] *= WRONG
            return loss

    assert failed(check_deep(Mistaken)) == [f"vae relu 7-6: {name}"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_single_entry_that_is_off_is_found_and_named(name: str) -> None:
    class Mistaken(VAE):
        def backward(self, *arguments: Any, **named: Any) -> Loss:
            loss = super().backward(*arguments, **named)
            gradient = self.gradients[name]
            gradient.flat[-1] += 1e-3 * np.abs(gradient).max()
            return loss

    (found,) = [check for check in check_deep(Mistaken) if not check.passed]
    assert found.what == f"vae relu 7-6: {name}"
    last = tuple(n - 1 for n in parameter_shapes(12, (7, 6), 3)[name])
    assert found.where == last
    assert found.error == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize(("field", "what"), [("h_enc", "x"), ("z", "epsilon")])
def test_an_input_gradient_wrong_by_a_thousandth_is_found(field: str, what: str) -> None:
    class Mistaken(VAE):
        def backward(self, *arguments: Any, **named: Any) -> Loss:
            loss = super().backward(*arguments, **named)
            value = getattr(named["out"], field)
            array = value[0] if isinstance(value, list) else value
            array *= WRONG
            return loss

    assert failed(check_deep(Mistaken)) == [f"vae relu 7-6: {what}"]


ENCODER = [name for name in PARAMETERS if name.startswith("encoder")]
DECODER = [name for name in PARAMETERS if name.startswith("decoder")]
BEFORE_HEADS = [name for name in ENCODER if "hidden" in name]


def patch_latent_gradients(monkeypatch: pytest.MonkeyPatch, mistaken: Callable[..., Array]) -> None:
    monkeypatch.setattr(npvae.model, "latent_gradients", mistaken)


def assert_found(names: list[str]) -> None:
    """The mistake shows in all of these arrays, and in no parameter besides."""
    found = failed(check_deep())
    assert [what for what in found if what.split()[-1] in PARAMETERS] == [
        f"vae relu 7-6: {name}" for name in names
    ]


def test_a_dropped_kl_term_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_kl(mu: Array, log_var: Array, e: Array, d_z: Array, d_kl: float, *out: Array) -> Array:
        return latent_gradients(mu, log_var, e, d_z, 0.0, *out)

    patch_latent_gradients(monkeypatch, no_kl)
    assert_found(ENCODER)


def test_kl_without_beta_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_beta(mu: Array, log_var: Array, e: Array, d_z: Array, d_kl: float, *out: Array) -> Array:
        return latent_gradients(mu, log_var, e, d_z, 1 / len(mu), *out)

    patch_latent_gradients(monkeypatch, no_beta)
    assert_found(ENCODER)


def test_kl_without_1_over_b_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def summed(mu: Array, log_var: Array, e: Array, d_z: Array, d_kl: float, *out: Array) -> Array:
        return latent_gradients(mu, log_var, e, d_z, d_kl * len(mu), *out)

    patch_latent_gradients(monkeypatch, summed)
    assert_found(ENCODER)


def test_bce_without_1_over_b_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bce_and_gradient
    monkeypatch.setattr(
        npvae.model, "bce_and_gradient", lambda logits, x, d_bce, out: right(logits, x, 1.0, out)
    )
    assert_found(PARAMETERS)


def test_the_pixels_forgotten_at_mu_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def kl_alone(
        mu: Array, log_var: Array, e: Array, d_z: Array, d_kl: float, *out: Array
    ) -> Array:
        return latent_gradients(mu, log_var, e, np.zeros_like(d_z), d_kl, *out)

    patch_latent_gradients(monkeypatch, kl_alone)
    assert_found(ENCODER)


def sigma_squared_backward(d_z: Array, log_var: Array, epsilon: Array) -> tuple[Array, Array]:
    """The well-known mistake: exp(log_var) for the standard deviation."""
    return d_z, d_z * epsilon * np.exp(log_var)


def patch_reparameterize_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (npvae.model, npvae.gradcheck):
        monkeypatch.setattr(module, "reparameterize_backward", sigma_squared_backward)
    # The NumPy function, because its compiled twin would not see the mistake.
    specification = getattr(latent_gradients, "specification")  # noqa: B009
    patch_latent_gradients(monkeypatch, specification)


def test_a_wrong_sigma_in_backward_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_reparameterize_backward(monkeypatch)
    assert failed(list(check_reparameterize(rng()))) == ["reparameterize: log_var"]
    found = failed(check_deep())
    assert {f"vae relu 7-6: {name}" for name in ENCODER if "encoder.mu" not in name} <= set(found)


def test_a_wrong_sigma_in_both_directions_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a gradient check is not enough: test_meaning.py finds this one."""

    def forward(mu: Array, log_var: Array, epsilon: Array, out: Array) -> None:
        np.add(mu, np.exp(log_var) * epsilon, out=out)

    patch_reparameterize_backward(monkeypatch)
    for module in (npvae.model, npvae.gradcheck):
        monkeypatch.setattr(module, "reparameterize", forward)
    assert failed(list(check_reparameterize(rng()))) == []
    parameters = [check for check in check_deep() if check.what.split()[-1] in PARAMETERS]
    assert failed(parameters) == []


@pytest.mark.parametrize("head", ["to_mu", "to_log_var"])
def test_heads_whose_gradients_are_not_added_are_found(head: str) -> None:
    def make(*arguments: object) -> VAE:
        vae = VAE(*arguments)  # type: ignore[arg-type]
        layer: Dense = getattr(vae, head)
        nothing = np.zeros((5, 6))
        layer.backward_to_input = lambda d_y, out=None: nothing  # type: ignore[method-assign]
        return vae

    found = failed(check_deep(make))
    assert found == [f"vae relu 7-6: {name}" for name in (*BEFORE_HEADS, "x")]


# ------------------------------------------------------------------ mistakes in the parts


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_missing_activation_derivative_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = Activation(ACTIVATIONS[name].forward, linear_backward)
    monkeypatch.setitem(ACTIVATIONS, name, straight)
    assert not check_activation(name, straight, rng()).passed
    assert len(failed(list(check_dense(name, straight, rng())))) == 3
    found = failed(list(check_model(name, (7, 6), rng())))
    assert {f"vae {name} 7-6: {parameter}" for parameter in BEFORE_HEADS} <= set(found)


@pytest.mark.parametrize("part", ["W", "b"])
def test_a_wrong_dense_gradient_is_found(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Dense.backward

    def backward(self: Dense, x: Array, h: Array, out: Array) -> None:
        right(self, x, h, out)
        getattr(self, f"d_{part}")[...] *= WRONG

    monkeypatch.setattr(Dense, "backward", backward)
    assert failed(list(check_dense("linear", LINEAR, rng()))) == [f"dense linear: {part}"]
    assert failed(list(check_mlp(rng()))) == [f"mlp: layer{k}.{part}" for k in range(3)]


def test_a_wrong_gradient_of_a_dense_input_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Dense.backward_to_input

    def backward_to_input(self: Dense, d_y: Array, out: Array | None = None) -> Array:
        d_x = right(self, d_y, out)
        d_x *= WRONG
        return d_x

    monkeypatch.setattr(Dense, "backward_to_input", backward_to_input)
    assert failed(list(check_dense("linear", LINEAR, rng()))) == ["dense linear: x"]
    below = [f"mlp: layer{k}.{part}" for k in range(2) for part in "Wb"]
    assert failed(list(check_mlp(rng()))) == [*below, "mlp: x"]


def test_a_wrong_gradient_of_bce_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bce_with_logits_backward
    monkeypatch.setattr(
        npvae.gradcheck, "bce_with_logits_backward", lambda *arguments: WRONG * right(*arguments)
    )
    assert failed(list(check_losses(rng()))) == ["bce: logits"]


def test_a_wrong_gradient_of_bce_in_one_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bce_and_gradient
    monkeypatch.setattr(
        npvae.gradcheck,
        "bce_and_gradient",
        lambda logits, x, d_bce, out: right(logits, x, WRONG * d_bce, out),
    )
    assert failed(list(check_losses(rng()))) == ["bce and gradient: logits"]


@pytest.mark.parametrize("which", ["mu", "log_var"])
@pytest.mark.parametrize("part", ["kl_divergence", "reparameterize"])
def test_a_wrong_gradient_of_mu_or_log_var_is_found(
    part: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(npvae.gradcheck, f"{part}_backward")

    def backward(*arguments: Array) -> tuple[Array, Array]:
        d_mu, d_log_var = right(*arguments)
        return (WRONG * d_mu, d_log_var) if which == "mu" else (d_mu, WRONG * d_log_var)

    monkeypatch.setattr(npvae.gradcheck, f"{part}_backward", backward)
    checks = [*check_losses(rng()), *check_reparameterize(rng())]
    assert failed(checks) == [f"{part.removesuffix('_divergence')}: {which}"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_wrong_slope_of_an_activation_is_found(name: str) -> None:
    right = ACTIVATIONS[name]

    def backward(h: Array, out: Array) -> None:
        right.backward(h, out)
        out *= WRONG

    assert check_activation(name, right, rng()).passed
    assert not check_activation(name, Activation(right.forward, backward), rng()).passed


def leaky_a_little_more(h: Array, out: Array) -> None:
    np.multiply(out, 0.011, out=out, where=h <= 0)


def elu_without_the_1(h: Array, out: Array) -> None:
    np.multiply(out, h, out=out, where=h <= 0)


def tanh_without_the_square(h: Array, out: Array) -> None:
    out *= 1 - h


def relu_the_other_way(h: Array, out: Array) -> None:
    out[h > 0] = 0


@pytest.mark.parametrize(
    ("name", "backward"),
    [
        ("relu", relu_the_other_way),
        ("leaky_relu", leaky_a_little_more),
        ("elu", elu_without_the_1),
        ("tanh", tanh_without_the_square),
    ],
)
def test_a_likely_mistake_in_an_activation_is_found(
    name: str, backward: Callable[[Array, Array], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistaken = Activation(ACTIVATIONS[name].forward, backward)
    assert not check_activation(name, mistaken, rng()).passed
    assert len(failed(list(check_dense(name, mistaken, rng())))) == 3
    monkeypatch.setitem(ACTIVATIONS, name, mistaken)
    assert f"vae {name} 7: x" in failed(list(check_model(name, (7,), rng())))
