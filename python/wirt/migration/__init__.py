"""Live migration: a machine moves to another process or host while it runs.

The way in is :meth:`wirt.Machine.migrate` and :meth:`wirt.Machine.receive`; docs/migration.md explains the rest.
"""

from __future__ import annotations

from wirt.migration.progress import MigrationProgress, MigrationReport

__all__ = ["MigrationProgress", "MigrationReport"]
