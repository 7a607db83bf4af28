# SPDX-License-Identifier: Apache-2.0
"""A kernel without audit: a boot of its own, with audit=0, which registers no more than CONFIG_AUDIT=n would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suites.staging import COMMAND, installed
from tests.suites.test_doctor import doctor, in_state


@pytest.mark.full
@pytest.mark.vm
def test_says_that_there_is_no_audit(share: Path, pytestconfig: pytest.Config) -> None:
    slot = (pytestconfig.getoption("--kernel") or ["6.1"])[0]
    with installed(slot, share, extra_append="audit=0", settle=False) as guest:
        done = guest.run([COMMAND, "run", "--for", "1s"], timeout=60)
        rows = doctor(guest, load=True)
    assert done.returncode == 5, done.stderr.decode()
    assert b"hint: " in done.stderr
    assert b"Traceback" not in done.stderr
    # And doctor: why, that nothing can be asked, and no guess at what cannot be known.
    assert in_state(rows, "fail") == {"audit-boot", "audit", "self-test"}
    assert " audit=0: no audit until the next boot" in rows["audit-boot"]["detail"]
    assert rows["audit"]["hint"]
    asked = {name for name in rows if name.startswith(("audit-", "rule"))} - {"audit-probes"}
    assert not asked & in_state(rows, "ok")
