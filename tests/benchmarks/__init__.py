"""Measurements, not tests: `python -m tests.benchmarks [guards|claims|touching|all]`; see `docs/benchmarks.md`.

Reading order: `__main__` (arguments), `places` (the server and its databases), `measure` (rounds and tables), then
the suites: `guards`, `claims` (with `contenders` and `peers`, run by processes of `worker`), `touching`.
"""
