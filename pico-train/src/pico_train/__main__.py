"""``pico-train`` and ``python -m pico_train``: the command line, once what it needs is imported.

That takes a moment, in which Ctrl-C is answered here: nothing is begun yet, so the process ends at once, whatever is
being imported. Commands have handlers of their own.
"""

import os
import signal


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where Ctrl-C is ignored: under nohup
        signal.signal(signal.SIGINT, _leave)
    from pico_train.cli.app import main as run

    run()


def _leave(*_: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
