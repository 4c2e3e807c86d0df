"""What Pico 1.0 called its files."""

import re

CONFIG = "training_config.yaml"
STEP = re.compile(r"step_([0-9]{1,8})")
"""Directory of a checkpoint."""
RESULTS = re.compile(r"(?<![0-9A-Za-z])step_([0-9]{1,8})(?![0-9])")
"""The step in the name of a file of evaluation results."""
DYNAMICS = "learning_dynamics"
"""Directory of a checkpoint's captures."""
