"""The executable by which kubectl completes `kubectl davy …`."""

from __future__ import annotations

import contextlib
import os
import sys

from davylamp.cli.main import main


def kubectl() -> int:
    """`kubectl_complete-davy`: print what the words could go on with.

    kubectl calls it with the words after `davy`, the incomplete one last, and expects candidates, one a line, then a
    colon and a directive (4: no file names), as cobra has them:
    https://kubernetes.io/docs/reference/kubectl/generated/kubectl_plugin/
    """
    words = ["davy", *sys.argv[1:]]
    os.environ |= {
        "_DAVY_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(max(len(words) - 1, 1)),
    }
    with contextlib.suppress(SystemExit):
        main([])
    sys.stdout.write(":4\n")
    return 0
