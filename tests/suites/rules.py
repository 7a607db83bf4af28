# SPDX-License-Identifier: Apache-2.0
"""The guest's audit rules, as a test sets them. Never loads a rule anywhere but in a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.vm.guest import Guest


class Rules:
    """Rules through auditctl."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def add(self, *rule: str) -> None:
        """One rule, as auditctl takes it."""
        self._guest.run(["auditctl", *rule], check=True)

    def clear(self) -> None:
        """No rules."""
        self._guest.run(["auditctl", "-D"], check=True)
