"""The study: which runs it consists of, and its table, from records made up by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import study
from cache.record import Costs, Metrics, RunRecord
from tests.cache.samples import make_record


def record(test: float, *, gflops: float = 10.0, recovered: float | None = None) -> RunRecord:
    """A record of the study with that accuracy on the test images."""

    def metrics(map50_95: float) -> Metrics:
        return Metrics(map50=0.9, map50_95=map50_95, precision=0.9, recall=0.9)

    costs = Costs(gflops=gflops, params=round(100 * gflops), gflops_deployed=gflops / 2, params_deployed=1)
    return replace(
        make_record(),
        costs=costs,
        metrics=metrics(test + 0.1),
        metrics_test=metrics(test),
        metrics_recovered=None if recovered is None else metrics(recovered),
    )


def written(folder: Path, variant: str, cut: str, seed: int, made: RunRecord) -> None:
    (entry,) = (each for each in study.entries() if (each.variant.name, each.cut, each.seed) == (variant, cut, seed))
    study._write(folder / entry.file_name, made)


class TestEntries:
    def test_each_has_a_record_of_its_own(self) -> None:
        names = [entry.file_name for entry in study.entries()]
        assert len(set(names)) == len(names)

    def test_ours_is_run_at_every_cut_and_thrice_at_two(self) -> None:
        ours = [(entry.cut, entry.seed) for entry in study.entries() if entry.variant.name == study.OURS]
        assert {cut for cut, _ in ours} == set(study.CUTS)
        assert sorted(seed for cut, seed in ours if cut == "level 5") == [0, 1, 2]
        assert sorted(seed for cut, seed in ours if cut == "40% GFLOPs") == [0, 1, 2]
        assert [seed for cut, seed in ours if cut == "level 1"] == [0]

    def test_the_reference_is_run_uncut(self) -> None:
        tuned = [(entry.cut, entry.seed) for entry in study.entries() if entry.variant.name == study.ORIGINAL_TUNED]
        assert sorted(tuned) == [(study.UNCUT, seed) for seed in study.SEEDS]

    def test_ours_and_what_it_counts_against_come_first_and_mild_cuts_of_peers_last(self) -> None:
        names = [entry.variant.name for entry in study.entries() if entry.seed == 0]
        assert names[: len(study.CUTS) + 1] == [study.OURS] * len(study.CUTS) + [study.ORIGINAL_TUNED]
        mild = [entry.cut in study.MILD for entry in study.entries() if entry.variant.name != study.OURS]
        assert mild == sorted(mild)

    @pytest.mark.parametrize("peer", [study.TORCH_PRUNING, study.ANY_COUNT, study.NARROWER, study.FASTNAS])
    def test_each_peer_is_trained_by_its_own_recipe_and_by_ours(self, peer: str) -> None:
        recipes = {entry.variant.options.get("recipe") for entry in study.entries() if entry.variant.peer == peer}
        assert recipes == {None, "standard"}


class TestTable:
    def test_reference_is_the_better_of_the_original_and_the_fine_tuned(self, tmp_path: Path) -> None:
        study._write(tmp_path / study.ORIGINAL_FILE, record(0.5))
        written(tmp_path, study.OURS, "40% GFLOPs", 0, record(0.45, gflops=4.0))
        alone = study.table(tmp_path).set_index("variant")
        assert alone.loc[study.OURS, "part_of_reference"] == pytest.approx(0.9)
        for seed, test in enumerate((0.55, 0.6, 0.65)):
            written(tmp_path, study.ORIGINAL_TUNED, study.UNCUT, seed, record(test))
        beside = study.table(tmp_path).set_index("variant")
        assert beside.loc[study.OURS, "part_of_reference"] == pytest.approx(0.75)
        assert beside.loc[study.ORIGINAL, "part_of_reference"] == pytest.approx(0.5 / 0.6)

    def test_mean_and_interval_over_seeds(self, tmp_path: Path) -> None:
        study._write(tmp_path / study.ORIGINAL_FILE, record(0.5))
        for seed, test in enumerate((0.4, 0.5, 0.6)):
            written(tmp_path, study.OURS, "level 5", seed, record(test, gflops=7.8, recovered=0.3 + 0.1 * seed))
        row = study.table(tmp_path).set_index("variant").loc[study.OURS]
        assert row["seeds"] == 3
        assert row["map50_95_test"] == pytest.approx(0.5)
        assert row["map50_95_val"] == pytest.approx(0.6)
        assert row["map50_95_val_before_training"] == pytest.approx(0.4)
        # Student's t for 2 degrees of freedom is 4.303; the standard deviation is 0.1.
        assert row["interval"] == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
        assert row["gflops_kept"] == pytest.approx(0.78)
        assert row["params_kept"] == pytest.approx(0.78)

    def test_one_seed_has_no_interval(self, tmp_path: Path) -> None:
        study._write(tmp_path / study.ORIGINAL_FILE, record(0.5))
        rows = study.table(tmp_path)
        assert rows["interval"].isna().all()
        assert "| original | uncut | 1 | 100.0% | 100.0% |  | 0.600 | 0.500 | 100.0% |" in study._markdown(rows)

    def test_record_names_no_place(self, tmp_path: Path) -> None:
        study._write(tmp_path / "a.json", record(0.5))
        shipped = study._read(tmp_path / "a.json")
        assert shipped.artifacts == ()
        assert shipped.spec is not None
        assert shipped.spec == shipped.spec.without_places()


@pytest.mark.parametrize(
    ("asked", "missing"),
    [("table", "table needs --table"), ("run", "run needs --model and --data")],
)
def test_what_is_not_given_is_told_in_a_sentence(
    asked: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["study", asked, "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        study.main()
    assert missing in capsys.readouterr().err
