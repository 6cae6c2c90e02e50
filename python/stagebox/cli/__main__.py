"""`python -m stagebox.cli` is `stagebox`."""

import sys

from . import main

sys.exit(main())
