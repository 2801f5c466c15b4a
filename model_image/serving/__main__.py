"""`python -m serving`."""

import sys

from serving.lifecycle import main

sys.exit(main())
