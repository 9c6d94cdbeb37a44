"""Has pytest rewrite the assertions of the contract, which is in no test module."""

import pytest

for part in ("contract", "contract_steps", "adoption_contract"):
    pytest.register_assert_rewrite(f"tests.integration.worker.backends.{part}")
