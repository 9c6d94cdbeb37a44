from scripts.coverage_report import Coverage, by_package, table


def summary(statements: int, run: int, branches: int = 0, branches_run: int = 0) -> dict[str, dict[str, int]]:
    return {
        "summary": {
            "num_statements": statements,
            "covered_lines": run,
            "num_branches": branches,
            "covered_branches": branches_run,
        }
    }


REPORT = {
    "files": {
        "src/oz_agent_worker/errors.py": summary(4, 4),
        "src/oz_agent_worker/protocol/outbox.py": summary(10, 5, 10, 5),
        "src/oz_agent_worker/protocol/frames.py": summary(10, 10),
        "src/oz_agent_worker/controlplane/store/logs.py": summary(0, 0),
    }
}


def test_files_are_added_up_by_package() -> None:
    packages = by_package(REPORT)
    assert packages["protocol"] == Coverage(20, 15, 10, 5)
    assert set(packages) == {"oz_agent_worker", "protocol", "controlplane.store"}


def test_branches_count_like_statements_and_an_empty_package_is_covered() -> None:
    packages = by_package(REPORT)
    assert packages["protocol"].percent == 100 * 20 / 30
    assert packages["controlplane.store"].percent == 100.0


def test_the_table_ends_with_the_whole() -> None:
    last = table(by_package(REPORT)).splitlines()[-1]
    assert last.split() == ["all", "24", "10", "70.6%"]
