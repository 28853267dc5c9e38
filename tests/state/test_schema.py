"""No field of saved state changes without its section's version."""

from __future__ import annotations

import json

from support.state_machines import SCHEMA, current_schema, differences


def test_fields_change_with_versions() -> None:
    mistakes, changes = differences(json.loads(SCHEMA.read_text()), current_schema())
    assert not mistakes, "\n".join(mistakes)
    assert not changes, "\n".join(
        ["renew the schema with: PYTHONPATH=tests python tests/support/state_machines.py", *changes]
    )


def test_what_counts_as_a_mistake() -> None:
    stored = {"rtc": {"version": 1, "fields": ["alarm integer 8"]}, "uart": {"version": 3, "fields": []}}
    more = ["alarm integer 8", "armed integer 1"]
    assert differences(stored, stored) == ([], [])
    assert differences(stored, {**stored, "rtc": {"version": 1, "fields": more}})[0]
    assert differences(stored, {**stored, "uart": {"version": 2, "fields": []}})[0]
    assert differences(stored, {**stored, "rtc": {"version": 2, "fields": more}}) == (
        [],
        ["section rtc: gone [], new ['armed integer 1']; version 2"],
    )
    assert differences(stored, {"rtc": stored["rtc"], "new": stored["uart"]}) == (
        [],
        ["section new is new", "section uart is gone"],
    )
