"""The front door: the `motifs` command, the demo, the report, the state of a session.

The linear algebra here works on many small systems, which OpenBLAS slows down tenfold by handing each to several
threads; parallel work is by processes instead. The variable must be set before numpy is first imported.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
