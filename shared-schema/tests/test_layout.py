from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import DocumentError, UnsafePathError, layout


@given(st.integers(0, layout.MAX_STEP))
def test_a_step_directory_parses_back(step: int) -> None:
    assert layout.parse_step_dir(layout.step_dir(step)) == step


def test_the_last_step_has_eight_nines() -> None:
    assert layout.MAX_STEP == 99_999_999
    assert layout.step_dir(99_999_999) == "step-99999999"
    assert layout.tag_name("demo", 99_999_999) == "demo-step-99999999"


@given(st.integers(0, layout.MAX_STEP))
def test_a_tag_parses_back_even_where_the_name_looks_like_a_tag(step: int) -> None:
    assert layout.parse_tag(layout.tag_name("a-step-7", step)) == ("a-step-7", step)


@pytest.mark.parametrize(
    "tag",
    ["demo", "demo-step-", "-step-1", "demo-step-01", "demo-step-100000000", "demo-step--1", "demo-step-1 ",
     "a/b-step-1", "demo-step-x", "step-1", "a..b-step-1", "demo.lock-step-1", "demo.-step-1", "a" * 97 + "-step-1"],
)  # fmt: skip
def test_a_tag_that_no_run_and_step_could_have_is_none_of_ours(tag: str) -> None:
    assert layout.parse_tag(tag) is None


def test_names_are_those_of_the_contract() -> None:
    assert layout.checkpoint_dir(128) == "checkpoints/step-00000128"
    assert layout.evaluation_file(128) == "evaluations/step-00000128.json"
    assert layout.VALIDATION_ROWS == "validation.parquet"
    assert layout.VALIDATION_COLUMNS == ("row", "input_ids", "text", "source")
    assert layout.captures_file("val") == "captures/val.safetensors"
    assert layout.tag_name("demo", 128) == "demo-step-128"
    assert layout.branch_name("demo") == "demo"


@pytest.mark.parametrize("step", [-1, 10**8])
def test_a_step_that_eight_digits_cannot_hold_is_refused(step: int) -> None:
    with pytest.raises(DocumentError, match="out of range"):
        layout.step_dir(step)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a..b", "x.lock", "ends.", "ü", "a b", "a" * 97, "../x"])
def test_a_name_that_cannot_be_a_directory_and_a_branch_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="run name"):
        layout.check_run_name(name)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\0b", "a\\b", "C:x", "a\nb", "nul.", "a ",
     "x" * 256, "ü" * 128, "/".join(["a" * 204] * 5) + "b",
     "a\x1fb", "a\x7fb", "a\ud800b", "a\udfffb", "/", ".", "a/..", *(f"a{char}b" for char in '<>"|?*')],
)  # fmt: skip
def test_a_path_that_could_leave_its_directory_is_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        layout.safe_relative_path(path)


@pytest.mark.parametrize("paths", [["a", "A"], ["é", "e\u0301"], ["a", "a/b"], ["x/a/b", "x/a"], ["a/B/c", "a/b"]])
def test_paths_that_collide_on_some_file_systems_are_refused(paths: list[str]) -> None:
    with pytest.raises(UnsafePathError, match="collide"):
        layout.check_paths(paths)


def test_ordinary_paths_are_accepted() -> None:
    layout.check_paths(["a", "b/c", "b/d", "captures/train.safetensors", "a b/.c", "\ud7ff\ue000", "~a/b..c"])


def test_paths_and_their_parts_may_be_as_long_as_file_systems_take() -> None:
    longest = "/".join(["a" * 204] * 5)
    assert len(longest) == 1024
    for path in (longest, "x" * 255, "ü" * 127 + "/b"):
        assert str(layout.safe_relative_path(path)) == path


def test_a_symbolic_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafePathError, match="symbolic link"):
        layout.inside(tmp_path / "root", "link/secret")


@pytest.mark.parametrize("error", [RuntimeError("Symlink loop"), OSError(40, "Too many levels of symbolic links")])
def test_links_that_cannot_be_followed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def resolve(_: Path) -> Path:
        raise error  # as Python does, up to 3.12 in one way, on some systems in the other

    monkeypatch.setattr(Path, "resolve", resolve)
    with pytest.raises(UnsafePathError, match="symbolic link"):
        layout.inside(tmp_path, "round/and/round")


@given(st.text(max_size=40))
def test_whatever_is_accepted_stays_inside(path: str) -> None:
    try:
        pure = layout.safe_relative_path(path)
    except UnsafePathError:
        return
    assert ".." not in pure.parts and not pure.is_absolute()
