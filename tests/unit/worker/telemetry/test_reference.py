"""The document's table is written anew, and nothing else of it."""

from pathlib import Path

from oz_agent_worker.worker.telemetry.catalogue import metric_table
from oz_agent_worker.worker.telemetry.reference import main


def test_the_table_is_replaced(tmp_path: Path) -> None:
    begin, end = "<!-- metrics, written by `make docs` -->\n", "<!-- end of the metrics -->"
    path = tmp_path / "metrics.md"
    path.write_text(f"before\n{begin}old\n{end}\nafter\n")
    main([str(path)])
    assert path.read_text() == f"before\n{begin}{metric_table()}{end}\nafter\n"
