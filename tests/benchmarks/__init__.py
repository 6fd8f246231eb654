"""Measurements, not tests: `python -m tests.benchmarks [guards|claims|touching|browser|all]`; see `docs/benchmarks.md`.

Reading order: `__main__` (arguments), `places` (the server and its databases), `measure` (rounds and tables), then
the suites: `guards`, `claims` (with `contenders` and `peers`, run by processes of `worker`), `touching`,
`browser` (pages of `browser_site`, looked at by `browser_client`).
"""
