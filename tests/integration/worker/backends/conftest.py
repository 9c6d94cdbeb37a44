"""The contract stands in no test module, and its assertions shall explain themselves as if it did."""

import pytest

for part in ("contract", "contract_steps", "adoption_contract"):
    pytest.register_assert_rewrite(f"tests.integration.worker.backends.{part}")
