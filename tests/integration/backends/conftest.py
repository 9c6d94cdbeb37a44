"""The contract stands in no test module, and its assertions shall explain themselves as if it did."""

import pytest

pytest.register_assert_rewrite("tests.integration.backends.contract")
