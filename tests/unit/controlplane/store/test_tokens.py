from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.store.tokens import hash_token, new_api_key, new_workload_token


def test_kinds_are_told_apart_by_their_prefix() -> None:
    assert new_api_key().reveal().startswith("ozk_")
    assert new_workload_token().reveal().startswith("ozw_")


def test_tokens_differ_and_carry_256_bits() -> None:
    keys = {new_api_key().reveal() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == len("ozk_") + 43 for key in keys)  # 32 bytes in base64


def test_the_hash_is_sha256() -> None:
    assert hash_token(Secret("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_token_does_not_print_itself() -> None:
    assert "ozk_" not in f"{new_api_key()} {new_api_key()!r}"
