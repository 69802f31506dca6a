"""What more processes gain: the figures are measured, and the estimate follows from them."""

import importlib.util
import shutil

import pytest

from npvae import fast

pytestmark = pytest.mark.skipif(bool(fast.why_not("auto")), reason="the engine cannot run here")


def test_the_estimate_is_that_of_the_model_in_the_docstring() -> None:
    """1 ms and 10 us an image on one rank, and 1 ms for an exchange."""
    from npvae.reference.timing.mpi_times import table

    one = {"step": {"100": 2e-3, "1000": 11e-3}, "exchange": 0.0}
    two = {"step": {"100": 2.5e-3, "1000": 7e-3}, "exchange": 1e-3}
    _, small, large, *_, pays = table(one, two).splitlines()
    assert small.split() == ["100", "2.00", "2.50", "40%", "2.25", "2.12"]
    assert large.split() == ["1000", "11.00", "7.00", "79%", "4.50", "3.25"]
    assert "2 ranks pay from batch size 200 on" in pays
    assert "8 from 114" in pays


@pytest.mark.skipif(not importlib.util.find_spec("mpi4py"), reason="mpi4py is not installed")
@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec is not installed")
def test_two_ranks_are_measured() -> None:
    from npvae.reference.timing.mpi_times import measured

    two = measured(2, [8, 4])
    assert set(two["step"]) == {"8", "4"}
    assert all(time > 0 for time in [*two["step"].values(), two["exchange"]])
