"""Classes of scenes, which are known since scenes are drawn: by backdrop, shape or colour."""

from collections.abc import Mapping, Sequence

from engine.shapes.scene import Scene
from engine.shapes.wording import BACKDROP_PHRASES, COLOUR_WORDS, SHAPE_WORDS

PROMPTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "backdrop": {name: [f"Shapes {phrase}." for phrase in phrases] for name, phrases in BACKDROP_PHRASES.items()},
    "shape": {name: [f"A picture of a {word}." for word in words] for name, words in SHAPE_WORDS.items()},
    "colour": {name: [f"A {word} shape." for word in words] for name, words in COLOUR_WORDS.items()},
}
"""The prompts of each class, by what scenes are classified by."""


def classes_of(scene: Scene, attribute: str) -> tuple[str, ...]:
    """Return the classes of a scene: its backdrop, or the different shapes or colours of its things."""
    if attribute == "backdrop":
        return (scene.backdrop,)
    return tuple(dict.fromkeys(getattr(thing, attribute) for thing in scene.things))
