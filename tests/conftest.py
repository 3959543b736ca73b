"""What every test may rely on."""

import signal


def pytest_configure():
    """A shell that starts the tests in the background has them ignore Ctrl-C, and their children too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
