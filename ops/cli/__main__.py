"""`python -m perennial.ops.cli`."""

import sys

from perennial.ops.cli.main import main

sys.exit(main())
