"""What all tests share: one thread for BLAS.

The arrays of the tests are small, and two test runs at once on two cores made the threads of
OpenBLAS wait for each other: 300 training steps took 18 s instead of 0.6 s. It has to be said
before NumPy is imported, and child processes inherit it.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
