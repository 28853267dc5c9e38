"""What every test may rely on."""

import signal


def pytest_configure(config):
    # A test run that was started in the background inherits an ignored SIGINT; Ctrl-C is among what is tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)
