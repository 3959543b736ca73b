"""What every test may rely on."""

import signal


def pytest_configure():
    """A shell that starts the tests in the background has them ignore Ctrl-C, nohup the hanging up, and their children
    too."""
    for name, action in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
            signal.signal(getattr(signal, name), action)
