"""What all tests share: one thread for BLAS, approved texts, a count of what fault tests tried.

The arrays of the tests are small, and two test runs at once on two cores made the threads of
OpenBLAS wait for each other: 300 training steps took 18 s instead of 0.6 s. It has to be said
before NumPy is imported, and child processes inherit it.
"""

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# As in a virtual environment that is active: suggested commands then begin with the word python.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
# A test never finds the datasets that the user has for Keras.
os.environ["KERAS_HOME"] = os.devnull

# Signals, terminals and forks as Unix has them are not to be had elsewhere.
UNIX = ("tests.forks", "import fcntl", "import pty", "signal.SIGALRM", "signal.SIGKILL")
if os.name == "nt":
    texts = {p: p.read_text(encoding="utf-8") for p in Path(__file__).parent.rglob("test_*.py")}
    collect_ignore = [path for path, text in texts.items() if any(word in text for word in UNIX)]


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """tally(faults, outcome) counts one fault of a kind and what came of it, for the report.

    For instance tally("checkpoint: bit flips", "refused"). The counts stand at the end of pytest's
    output; they are what the README quotes.
    """

    def count(faults: str, outcome: str) -> None:
        request.node.user_properties.append((faults, outcome))

    return count


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread() -> None:
    """Even if a plugin has imported NumPy before this file was read."""
    from npvae.fast.blas import thread_functions

    if (functions := thread_functions()) is not None:
        functions[1](int(os.environ["OPENBLAS_NUM_THREADS"]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--approve", action="store_true", help="write down what `said` is given")


@pytest.fixture
def said(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, dict[str, str]], None]:
    """said(name, texts) compares texts, by case, with those approved in tests/said/NAME.txt.

    They are read in review like code. After a reworded message, `python -m pytest --approve`
    writes all of them anew. $HERE stands for the test's folder.
    """

    def compare(name: str, texts: dict[str, str]) -> None:
        path = Path(__file__).parent / "said" / f"{name}.txt"
        given = "\n".join(f"[{case}]\n{text}\n" for case, text in texts.items())
        given = given.replace(str(tmp_path), "$HERE")
        if request.config.getoption("--approve"):
            path.write_text(given, encoding="utf-8")
        # As lists: pytest then shows the lines that differ.
        assert given.splitlines() == path.read_text(encoding="utf-8").splitlines()

    return compare


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def collected() -> Iterator[None]:
    """What a test leaves behind is collected before the next one begins: the locks of its runs.

    And nothing else is looked at, such as all of Numba: that took a tenth of a second each time.
    """
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture
def notebooks() -> tuple[Any, Any]:
    """nbclient, which runs notebooks, and nbformat, which reads them; skipped without them."""
    reason = "nbclient runs the notebook"
    pytest.importorskip("ipykernel", reason=f"{reason} in ipykernel")
    nbclient = pytest.importorskip("nbclient", reason=reason)
    return nbclient, pytest.importorskip("nbformat", reason=reason)


@pytest.fixture
def time_limit() -> Iterator[None]:
    """A test that waits for ever, as at a pipe without a writer, fails after five minutes."""
    if os.name != "posix":
        pytest.skip("pipes and alarms are those of Unix")

    def late(*_: object) -> None:
        pytest.fail("it waits for ever")  # which no `except Exception` of ours takes for a fault

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counted: dict[str, Counter[str]] = {}
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", "") == "call":  # a report of pytest-xdist has them, too
            for faults, outcome in report.user_properties:
                counted.setdefault(faults, Counter())[outcome] += 1
    if counted:
        terminalreporter.section("faults tried, and what came of them")
    for faults, outcomes in sorted(counted.items()):
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
        terminalreporter.line(f"{faults:44} {outcomes.total():8,}: {told}")
