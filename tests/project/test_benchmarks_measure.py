"""A cell says by how much ours is ahead of another, what was aimed at, and what the rounds disagree about."""

from tests.benchmarks.measure import Report


def _report(**rates: list[float]) -> tuple[Report, list[str]]:
    lines: list[str] = []
    report = Report(rounds=3, say=lines.append)
    for subject, values in rates.items():
        for number, value in enumerate(values):
            report.add("claim", subject, value, number)
    return report, lines


def test_a_cell_compares_ours_with_each_other_round_by_round() -> None:
    report, lines = _report(ours=[300, 330, 300], slower=[100, 100, 120], faster=[600, 600, 600])
    report.compare("claim", "ours", {"slower": 2.5, "faster": 0.6}, notes={"faster": "a loop"})
    [_, ours, slower, faster] = [" ".join(line.split()) for line in lines]
    assert ours == "ours 300/s"
    assert slower == "slower 100/s~ ours x 3~ (2.50-3.30) wanted 2.5: met"
    assert faster == "faster 600/s ours x 0.5 (0.50-0.55) wanted 0.6: MISSED a loop"


def test_the_raw_data_says_each_round_and_each_target() -> None:
    report, _ = _report(ours=[300], other=[200])
    report.compare("claim", "ours", {"other": 1.4}, notes={})
    assert report.raw == [
        {"cell": "claim", "subject": "ours", "round": 0, "rate": 300},
        {"cell": "claim", "subject": "other", "round": 0, "rate": 200},
        {"target": "claim, ours / other", "value": 1.5, "wanted": 1.4, "met": True},
    ]
