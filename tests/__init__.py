"""The tests. A shell that starts them in the background has them ignore SIGINT, and nohup SIGHUP;
the programs that they start would inherit that. Hypothesis measures no time: a machine may be busy.
"""

import signal

from hypothesis import settings

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
