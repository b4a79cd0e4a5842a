"""Sets from files: those that fit the student, and those whose texts nobody can read again."""

from pathlib import Path

import pytest

from engine.cluster.search.trial import BEST_SET
from engine.studies.evaluate import fitting_set
from engine.synthetic.set import load_set
from tests.finished import Finished


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"encoder": "no_such_encoder"}, "no_such_encoder"),
        ({"encoder": 3}, r"student\.text\.encoder"),
        ({"head": "mlp"}, "encoder"),
        ("tfidf", r"student\.text"),
    ],
)
def test_a_set_of_an_unknown_text_encoder_is_named(
    text: object, sentence: str, finished: Finished, tmp_path: Path
) -> None:
    synthetic = load_set(finished.job.folder / BEST_SET)
    synthetic.metadata["student"] = synthetic.metadata["student"] | {"text": text}
    synthetic.save(file := tmp_path / "set.safetensors")
    with pytest.raises(ValueError, match=sentence) as caught:
        fitting_set(finished.job, file)
    assert str(caught.value).startswith(f"{file}: the text encoder of its texts")
