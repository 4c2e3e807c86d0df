"""The model card."""

from __future__ import annotations

from pathlib import Path

from support.publishing import REPO

from pico_conformance.runs import write_run
from pico_schema import RevisionIndex, layout, read_checkpoint, read_run
from pico_train.publish.card import Place, run_card
from pico_train.publish.card_sections import plot


class TestCard:
    def make(self, tmp_path: Path, **changes: object) -> str:
        run_dir = write_run(tmp_path, steps=range(3))
        run = read_run(run_dir)
        index = RevisionIndex(run_id=run.id, run_name=run.name)
        for entry in run.checkpoints:
            manifest = read_checkpoint(run_dir / layout.checkpoint_dir(entry.step))
            index = index.with_checkpoint(manifest, entry.manifest_sha256, results={"paloma.loss": 3.5 - entry.step})
        place = Place("https://huggingface.co", REPO)
        return run_card(run.model_copy(update=changes), index, place, license="mit")

    def test_its_front_matter_is_yaml_that_the_hub_accepts(self, tmp_path: Path) -> None:
        import yaml

        front = yaml.safe_load(self.make(tmp_path).split("---")[1])
        assert front["license"] == "mit" and front["library_name"] == "transformers" and "pico" in front["tags"]

    def test_it_is_a_pure_function(self, tmp_path: Path) -> None:
        assert self.make(tmp_path / "a") == self.make(tmp_path / "b")

    def test_evaluations_have_a_table(self, tmp_path: Path) -> None:
        assert "| step | paloma.loss |\n| --- | --- |\n| 0 | 3.5 |\n| 1 | 2.5 |" in self.make(tmp_path)

    def test_no_text_of_a_document_becomes_markup(self, tmp_path: Path) -> None:
        data = read_run(write_run(tmp_path / "x", steps=(0,))).data
        hostile = data.model_copy(update={"source": "x | y\n# head <script>alert(1)</script> [a](javascript:b)"})
        text = self.make(tmp_path / "y", data=hostile)
        assert "<script>" not in text and "\n# head" not in text and "[a](" not in text

    def test_a_curve_has_a_point_for_each_value_at_its_place(self) -> None:
        lines = plot([(0, 4.0), (9, 3.0), (99, 2.0)], width=21, height=5).splitlines()
        assert [line.index("●") for line in lines if "●" in line] == [10, 20, 30]
        assert lines[0].startswith("   4.000") and lines[4].startswith("   2.000")
        assert lines[-1].split() == ["0", "99"]
