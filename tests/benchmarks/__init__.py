"""Measurements, not tests: `python -m tests.benchmarks [SUITE|all]`; see `docs/benchmarks.md`.

Reading order: `__main__` (arguments), `places` (the server and its databases), `measure` (rounds and tables), then
the suites: `guards`, `claims` (with `contenders`, `peers` and their `history`, run by processes of `worker`),
`saves` (with the models of `saved`), `touching`, `browser` (pages of `browser_site`, looked at by `browser_client`),
`ledger`.
"""
