"""Read how the authors of a sentence encoder pool its states, and refuse steps that are not taken here."""

from pathlib import Path
from typing import Any

from engine.io.files import read_json
from engine.models.tokens import Pooling
from engine.models.weights import Source, Unusable

POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_cls": "cls",
}
"""Names in the configuration of a sentence encoder, in the older spelling and the newer."""


def own_pooling(source: Source, folder: Path, config: Any) -> Pooling:
    """Return how the authors of the model in ``folder`` pool it.

    A sentence encoder says so in the configuration of its pooling, else in ``1_Pooling``. For a BERT or DistilBERT
    trained on masked words it is the first token, as in published work on distillation (arXiv 2308.07545); for all
    others the mean.

    Raises:
        Unusable: the folder asks for a pooling that is neither of these.
    """
    listed = [module.get("path", "") for module in _modules(source, folder) if _kind(module) == "Pooling"]
    file = folder / (listed[0] if listed else "1_Pooling") / "config.json"
    if not listed and not file.is_file():
        masked = any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in config.architectures or ())
        return "cls" if masked and config.model_type in ("bert", "distilbert") else "mean"
    given = _mapping(source, file)
    modes = [name for name, on in given.items() if name.startswith("pooling_mode_") and on is True]
    modes = modes or [f"pooling_mode_{given.get('pooling_mode')}"]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise source.error(
            f"{file}: expected the pooling of mean_tokens or of cls_token alone, found {', '.join(modes)}"
        )
    return POOLINGS[modes[0]]


def check_modules(source: Source, folder: Path, tokenizer: Any, *, normalize: bool) -> None:
    """Refuse a sentence encoder whose embeddings are more than pooled states, scaled to unit norm if ``normalize``.

    Raises:
        Unusable: ``modules.json`` lists other steps, or the encoder puts a prompt before texts or lowers their case.
    """
    modules, place = _modules(source, folder), "modules.json"
    kinds = [_kind(module) for module in modules]
    if modules and kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise source.error(
            f"{place}: expected Transformer, Pooling and at most Normalize, found {', '.join(kinds)}, whose embeddings "
            "would be others here"
        )
    if modules and modules[0].get("path"):
        raise source.error(f"{place}: expected the Transformer in the folder itself, found {modules[0]['path']!r}")
    if "Normalize" in kinds and not normalize:
        raise Unusable(
            f"student.text.normalize: false leaves out the step Normalize of {source.value!r}, {folder / place}: "
            "expected true."
        )
    file = folder / "config_sentence_transformers.json"
    given = _mapping(source, file) if file.is_file() else {}
    if prompt := (given.get("prompts") or {}).get(given.get("default_prompt_name")):
        raise source.error(
            f"{file.name}: expected no default_prompt_name, found the prompt {prompt!r} before each text"
        )
    file = folder / "sentence_bert_config.json"
    lowers = file.is_file() and _mapping(source, file).get("do_lower_case")
    if lowers and tokenizer("A B").input_ids != tokenizer("a b").input_ids:
        raise source.error(f"{file.name}: expected do_lower_case: false, found true with a tokenizer that keeps case")


def _modules(source: Source, folder: Path) -> list[dict[str, Any]]:
    """Return the steps of a sentence encoder, none if the folder lists none."""
    file = folder / "modules.json"
    if not file.is_file():
        return []
    with source.loading("a list of steps in modules.json"):
        return [{**module} for module in read_json(file)]


def _kind(module: dict[str, Any]) -> str:
    return str(module.get("type")).rpartition(".")[2]


def _mapping(source: Source, file: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping."""
    with source.loading(f"a mapping in {file.relative_to(source.place)}"):
        return {**read_json(file)}
