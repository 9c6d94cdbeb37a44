from oz_agent_worker.controlplane.wording import one_line, storable


def test_a_log_line_stays_one_line() -> None:
    assert one_line("a\nb\x1b[31m\u2028c") == "a?b?[31m?c"
    assert len(one_line("x" * 5000)) == 100


def test_stored_text_is_bounded_and_has_no_nul() -> None:
    assert storable("a\0b\n") == "a\N{REPLACEMENT CHARACTER}b\n"
    assert len(storable("x" * 5000)) == 4000
