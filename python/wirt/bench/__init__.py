"""Measurements that the package can make of itself, on any host."""

from __future__ import annotations
