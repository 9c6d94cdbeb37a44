from sqlalchemy import Connection

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer
from oz_agent_worker.controlplane.rules.run_states import RunOutcome, RunState
from oz_agent_worker.controlplane.store import keys, reports
from oz_agent_worker.controlplane.store.keys import hash_token, new_api_key, new_workload_token

from .support import GRACE, T0, add_run, give, state_before


def test_a_key_is_found_by_its_hash_until_it_is_revoked(connection: Connection) -> None:
    keys.add_key(connection, "k2", "bob", "1" * 64, T0 + 1)
    found = keys.find_key(connection, "1" * 64)
    assert found is not None
    assert (found.id, found.name) == ("k2", "bob")
    assert keys.revoke_key(connection, "k2", T0 + 2)
    assert keys.find_key(connection, "1" * 64) is None
    assert not keys.revoke_key(connection, "k2", T0 + 3)
    assert [(k.name, k.revoked_at) for k in keys.list_keys(connection)] == [("alice", None), ("bob", T0 + 2)]


def test_bringing_the_same_key_twice_stores_it_once(connection: Connection) -> None:
    one = keys.ensure_key(connection, "bob", Secret("1" * 64), T0)
    two = keys.ensure_key(connection, "bob", Secret("1" * 64), T0)
    assert one == two
    assert len(keys.list_keys(connection)) == 2


def test_a_revoked_key_does_not_come_back_by_being_brought_again(connection: Connection) -> None:
    key, token = keys.create_key(connection, "bob", T0)
    assert keys.find_key(connection, hash_token(token)) == key
    keys.revoke_key(connection, key.id, T0)
    keys.ensure_key(connection, "bob", token, T0)
    assert keys.find_key(connection, hash_token(token)) is None


def test_a_workload_token_leads_to_its_run_and_dies_with_it(connection: Connection) -> None:
    run_id = add_run(connection)
    token = give(connection, run_id)
    assert keys.find_workload(connection, token) == run_id
    reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0)
    assert state_before(reports.cancel(connection, run_id, T0, T0 + GRACE)) is RunState.CLAIMED
    assert keys.find_workload(connection, token) == run_id
    outcome = RunOutcome(state=RunState.CANCELLED, message="")
    reports.finish(connection, ExecutionRef(run_id), Peer("w"), outcome, T0)
    assert keys.find_workload(connection, token) is None


def test_kinds_differ_by_their_prefix() -> None:
    assert new_api_key().reveal().startswith("ozk_")
    assert new_workload_token().reveal().startswith("ozw_")


def test_tokens_differ_and_carry_256_bits() -> None:
    tokens = {new_api_key().reveal() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(key) == len("ozk_") + 43 for key in tokens)  # 32 bytes in base64


def test_the_hash_is_sha256() -> None:
    assert hash_token(Secret("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_token_does_not_print_itself() -> None:
    assert "ozk_" not in f"{new_api_key()} {new_api_key()!r}"
