"""``python -m pico_train``: the command line, also under torchrun."""

from pico_train.cli.app import main

if __name__ == "__main__":
    main()
