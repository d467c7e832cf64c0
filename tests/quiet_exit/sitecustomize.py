"""On PYTHONPATH of every command that a test starts: lets gloo's threads finish before the interpreter ends.

A thread of gloo drops a collective's tensors after the collective has returned. Where the interpreter is ending by then,
CPython 3.11 ends the thread in a destructor, and the finished run aborts ("terminate called without an active exception").
torch's matter, on a CPU only, and seen where a process ends right after its last collective.
"""

import atexit
import time


atexit.register(time.sleep, 0.5)  # without the interpreter's lock
