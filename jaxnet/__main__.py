"""`python -m jaxnet` is the `jaxnet` command."""

import sys

from jaxnet.cli import main

sys.exit(main())
