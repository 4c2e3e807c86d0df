"""What the command is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pico_schema import layout
from pico_train.cli.app import app
from pico_train.config import PublishConfig
from pico_train.errors import ConfigError, UsageError
from pico_train.publish.command import choose_settings, choose_steps


class TestChoices:
    def test_settings_come_from_the_run_under_the_command_line(self, run: Path) -> None:
        document = json.loads((run / layout.RUN_MANIFEST).read_bytes())
        document["config"]["publish"] = {"repo": "org/stored", "private": True, "unknown_by_now": 1}
        (run / layout.RUN_MANIFEST).write_text(json.dumps(document))
        assert choose_settings(run, {}) == PublishConfig(repo="org/stored", private=True)
        assert choose_settings(run, {"repo": "org/other"}).repo == "org/other"
        with pytest.raises(ConfigError, match="is not the name of a repository"):
            choose_settings(run, {"repo": "no"})

    def test_a_run_that_names_no_repository(self, run: Path) -> None:
        with pytest.raises(ConfigError, match="names no repository to publish to: add --repo org/name"):
            choose_settings(run, {})

    def test_steps_are_checked(self, run: Path) -> None:
        assert choose_steps(run, "0,2") == [0, 2] and choose_steps(run, None) is None
        for text in ("0,x", "5", ","):
            with pytest.raises(UsageError, match=r"write it as 0,1,128|has sealed steps 0, 1, 2"):
                choose_steps(run, text)

    def test_steps_are_named_once(self, run: Path) -> None:
        ended = CliRunner().invoke(app, ["publish", f"{run}@1", "--steps", "0,2", "--repo", "org/name"]).exception
        assert isinstance(ended, UsageError)
        assert str(ended).endswith("@1 names step 1 already: leave that or --steps 0,2 out")
