"""Two models on the validation images, counted against what each of them sees alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cache.shipped import SHIPPED
from compression.accuracy import detection_survey
from compression.accuracy.detection_changes import found_by
from compression.accuracy.detection_ranking import find_ranking
from compression.accuracy.detection_survey import progress_in, progress_line, survey
from compression.accuracy.detections import detect
from compression.accuracy.labels import validation_images
from compression.cli.main import main
from compression.data.dataset import open_dataset
from compression.errors import ModelError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import Detector, open_detector

SHAPES = SHIPPED / "shapes"
ORIGINAL, LEVEL_5 = SHAPES / "yolo26n.pt", SHAPES / "yolo26n-level5.pt"


def opened() -> tuple[Detector, Detector]:
    return open_detector(str(ORIGINAL)), open_detector(str(LEVEL_5))


def test_the_line_of_progress_can_be_read_again() -> None:
    assert progress_in(f"[trimboard] {progress_line(3, 40)}") == (3, 40)
    assert progress_in("something else") is None


def test_counts_are_those_of_the_models_alone(tiny_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    dataset = open_dataset(str(tiny_shapes))
    ranking = survey(
        *opened(), dataset, imgsz=320, head="e2e", conf=0.3, device="cpu", tell=lambda *how_far: told.append(how_far)
    )
    images = validation_images(str(tiny_shapes))
    assert told == [(number, 12) for number in range(12)]
    assert (ranking.n_images, ranking.iou, ranking.data) == (6, 0.5, "tiny-shapes")
    assert sum(row.n_objects for row in ranking.images) == ranking.total.n_objects
    for rows in (ranking.images, ranking.classes, ranking.sizes):
        assert sum(row.n_before for row in rows) == ranking.total.n_before
        assert all(row.n_before - row.n_lost == row.n_after - row.n_gained for row in rows)
    name = ranking.images[0].name
    objects = images.labels(name).objects
    for file, count in ((ORIGINAL, ranking.images[0].n_before), (LEVEL_5, ranking.images[0].n_after)):
        (seen,) = detect(file, [images.file(name)], imgsz=320, head="e2e", conf=0.3, device="cpu")
        assert sum(found_by(objects, seen)) == count
    # Half the size in pixels that the model sees: an object of 40 pixels counts as small.
    half = survey(*opened(), dataset, imgsz=160, head="e2e", conf=0.3, device="cpu")
    n_small = [next(row.n_objects for row in one.sizes if row.name == "small") for one in (ranking, half)]
    assert n_small[0] < n_small[1]

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the answer is stored")

    assert find_ranking(ranking.key) == ranking
    monkeypatch.setattr(detection_survey, "detect", refuse)
    assert survey(*opened(), dataset, imgsz=320, head="e2e", conf=0.3, device="cpu") == ranking


def test_models_of_other_classes_are_refused(tmp_path: Path, tiny_shapes: Path) -> None:
    file = tmp_path / "other.pt"
    write_checkpoint(open_detector("yolo26n.yaml", nc=3).module, file, {})
    with pytest.raises(ModelError, match="'other' predicts 3 classes and 'tiny-shapes' has 10"):
        survey(
            opened()[0], open_detector(str(file)), open_dataset(str(tiny_shapes)), imgsz=64, head="e2e", device="cpu"
        )
    with pytest.raises(ModelError, match="has random weights"):
        survey(
            opened()[0],
            open_detector("yolo26n.yaml", nc=10),
            open_dataset(str(tiny_shapes)),
            imgsz=64,
            head="e2e",
            device="cpu",
        )


def test_the_command_prints_tables_and_takes_keys(tiny_shapes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = json.loads((SHAPES / "yolo26n-level5.json").read_text())["key"]
    question = ("detections", str(ORIGINAL), key[:12], "--data", str(tiny_shapes), "--device", "cpu")
    main([*question, "--json"])
    out, err = capfd.readouterr()
    found = json.loads(out)
    # The image size is that of the run which the checkpoint is from.
    assert (found["imgsz"], found["head"], found["conf"], found["after"]) == (320, "e2e", 0.25, "yolo26n-level5")
    assert "looked 6 of 12 times at an image" in err
    main([*question])
    out, err = capfd.readouterr()
    assert out.startswith(f"yolo26n finds {found['total']['n_before']} and yolo26n-level5 ")
    assert [line for line in out.splitlines() if " by " in line] == [
        "Object sizes, by recall lost",
        "Classes, by recall lost",
        "Images, by objects lost",
    ]
    assert "looked" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere.pt", "x.pt"), "There is no checkpoint 'nowhere.pt'"),
        (("ab", "cd"), "There is no checkpoint 'ab'"),
        ((str(ORIGINAL), str(LEVEL_5), "--conf", "2"), "A confidence of 2 is not possible"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["detections", *arguments, "--data", "shapes"])
    err = capfd.readouterr().err
    assert (stopped.value.code, err.count("\n"), "Traceback" in err) == (2, 1, False)
    assert sentence in err


def test_a_key_without_its_checkpoint_says_how_to_get_it(capfd: pytest.CaptureFixture[str]) -> None:
    key = json.loads((SHAPES / "yolo26n-level3.json").read_text())["key"]
    with pytest.raises(SystemExit):
        main(["detections", key, str(LEVEL_5), "--data", "shapes"])
    assert "is not on this machine; measure it again with `trimboard run --again`" in capfd.readouterr().err
