"""What npvae is compared with: the same network in PyTorch, finite differences, other programs.

Programs of users import `state_dict` and `pytorch`; `timing/` is what `scripts/benchmark.py` runs.
"""
