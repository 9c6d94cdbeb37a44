"""Schema migrations, applied by alembic when the control plane starts."""
