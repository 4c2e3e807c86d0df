"""Pages for the tests in a browser, and for measuring: ``python pages.py FOLDER [NAME…]``.

Values are made up, so that a test can know them: layer + step / 1000 + head / 10, times one more than the metric's
number.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOM = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOM / "tests"))

from figure_rows import FLOATS, INTEGERS, lines_of, pairs_of_layers, pairs_of_steps, rows_of  # noqa: E402
from synthetic import make_run  # noqa: E402

from pico_analyze import reports  # noqa: E402
from pico_analyze.output.report.document import Shown, Told  # noqa: E402
from pico_analyze.output.report.page import page  # noqa: E402
from pico_analyze.stores.opening import open_store  # noqa: E402
from pico_analyze.table.columns import COLUMNS  # noqa: E402

METRICS = (
    "cka",
    "effective_rank",
    "norm",
    "per",
    "gini",
    "hoyer",
    "stable_rank",
    "kurtosis",
    "rankme",
    "condition_number",
)
HOSTILE = "<img src=x onerror=document.title=1>"
TEXTS = [
    "</script><script>document.title=2</script>",
    "<!-- ",
    "שלום עולם",
    "👩\u200d🔬",
    "\u2028\u2029",
    "\u202eright",
    "&lt;b&gt;",
    "\x00\ufffd",
]


def grid(steps: int, metrics: int, layers: int, heads: int, run: str = "m", shift: float = 0.0) -> pd.DataFrame:
    """Rows of the whole and of each head, made at once: `lines_of` takes seconds for so many."""
    at = np.unique(np.round(np.geomspace(1, 10 * steps, steps - 1)).astype(int))
    at = np.concatenate([[0], at, np.arange(at[-1] + 10, at[-1] + 10 * (steps - len(at)), 10)])[:steps]
    numbers = pd.MultiIndex.from_product(
        [METRICS[:metrics], range(layers), [-1, *range(heads)], at], names=["metric", "layer", "head", "step"]
    ).to_frame(index=False)
    frame = pd.DataFrame({name: [None] * len(numbers) for name in COLUMNS})
    frame = frame.assign(**numbers, run=run, split="val", data="activations", component="simple", site="attn.v")
    frame = frame.assign(
        params="{}", provenance='{"pico_analyze": "2"}', tokens_seen=numbers["step"] * 4096, n_samples=64
    )
    number = numbers["metric"].map({name: i for i, name in enumerate(METRICS)})
    wave = np.sin(np.log1p(numbers["step"]) + numbers["layer"] / 3)
    value = (numbers["layer"] + numbers["step"] / 1000 + numbers["head"].clip(lower=0) / 10 + wave) * (
        1 + number
    ) + shift
    frame["value"] = value
    frame["head"] = numbers["head"].where(numbers["head"] >= 0)
    return frame.astype(dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(FLOATS, "float64"))


def undefined() -> pd.DataFrame:
    """All of one metric is undefined, one value of another; a third has one step, a fourth one layer, a fifth is
    of a plug-in that is gone."""
    lost = lines_of(
        metric="cka", value=float("nan"), reason="fewer samples than are needed", target_run="m", target_step=100
    )
    gap = lines_of(metric="norm")
    hole = (gap["layer"] == 1) & (gap["step"] == 10)
    gap.loc[hole, ["value", "reason"]] = [float("nan"), "the matrix is zero"]
    band = lines_of(metric="per", layers=2).assign(
        ci_low=lambda rows: rows["value"] - 0.1, ci_high=lambda rows: rows["value"] + 0.1
    )
    one_step = lines_of(metric="gini", steps=(10,))
    one_layer = lines_of(metric="hoyer", layers=1)
    unknown = lines_of(metric="invented")
    biased = lines_of(metric="cka", site="mlp.up", target_run="m", target_step=100).assign(
        extra=lambda rows: [json.dumps({"debiased": value / 2}) for value in rows["value"]]
    )
    return pd.concat([lost, gap, band, one_step, one_layer, unknown, biased], ignore_index=True)


def documents(folder: Path) -> dict[str, object]:
    """Name → how its document is made."""
    shown = reports.document_of

    def run() -> object:
        store = open_store(make_run(folder / "runs"))
        rows = pd.concat(
            [
                grid(5, 3, 2, 4, store.run),
                pairs_of_steps().assign(run=store.run),
                pairs_of_layers().assign(run=store.run),
            ]
        )
        finding = {
            "text": "layer 1 moves most",
            "caveat": "one seed",
            "selection": {"metric": "norm", "layer": 1, "step": 1},
        }
        found = shown([Shown(rows, store)], Told("pico-analyze report demo", findings=[finding]))
        line = {"unit": "", "name": "", "steps": [0, 4], "values": [0.5, 0.75], "marks": True, "thinned": 0}
        names = ["pairs accuracy", "pairs/agreement accuracy", "pairs/islands accuracy"]
        found["runs"][0]["lines"] += [line | {"panel": name} for name in names]
        return found

    def hostile() -> object:
        rows = grid(4, 2, 2, 2, HOSTILE)
        found = shown([Shown(rows)], Told(f"pico-analyze report '{HOSTILE}'", notes=[f"a note {HOSTILE}"]))
        ids = np.arange(len(TEXTS), dtype=np.int32).reshape(1, -1)
        from pico_analyze.output.report.packing import packed

        batch = {"step": None, "split": "val", "ids": packed(ids), "shape": [1, len(TEXTS)], "sources": [HOSTILE]}
        loss = {"0": packed(np.linspace(0, 9, len(TEXTS)).astype(np.float32).reshape(1, -1))}
        texts = {str(i): text for i, text in enumerate(TEXTS)}
        found["runs"][0]["batches"] = {
            "texts": texts,
            "batches": [batch | {"n_rows": 1, "n_tokens": len(TEXTS)}],
            "losses": loss,
        }
        found["runs"][0]["config"] = [[HOSTILE, HOSTILE]]
        found["runs"][0]["facts"] = [["data", [["source", HOSTILE]]]]
        return found

    def several() -> object:
        frames = [grid(12, 3, layers, 4, f"seed{i}", i / 2) for i, layers in enumerate((6, 6, 3))]
        findings = [
            {
                "text": f"{run}: layer {n} moves",
                "caveat": "",
                "selection": {"run": run, "metric": "norm", "layer": n % 3},
            }
            for run in ("seed0", "seed1", "seed2")
            for n in range(5)
        ]
        return shown([Shown(frame) for frame in frames], Told("", findings=findings))

    return {
        "run": run,
        "hostile": hostile,
        "several": several,
        "undefined": lambda: shown([Shown(undefined())]),
        "empty": lambda: shown([Shown(rows_of([], lambda _: 0.0))]),
        "deep": lambda: shown([Shown(grid(20, 3, 48, 16))]),
        "usual": lambda: shown([Shown(grid(20, 5, 12, 12))]),
        "large": lambda: shown([Shown(grid(200, 10, 12, 12))]),
    }


def main(folder: Path, names: list[str]) -> None:
    """Write the pages, each with how long it took and how large it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in documents(folder).items():
        if names and name not in names:
            continue
        begun = time.perf_counter()
        content = page(make())  # type: ignore[operator]
        seconds = time.perf_counter() - begun
        (folder / f"{name}.html").write_text(content, encoding="utf-8")
        sys.stdout.write(
            json.dumps({"page": name, "seconds": round(seconds, 2), "bytes": len(content.encode())}) + "\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
