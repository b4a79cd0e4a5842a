"""Classes are the same ones in any order of classes and of images."""

from engine.data.classes import Classes

PROMPTS = {"dog": ["a dog", "a photo of a dog"], "cat": ["a cat"]}
OF_IMAGE = {"1.jpg": ["dog"], "2.jpg": ["cat", "dog"]}


def test_the_order_of_keys_is_no_part_of_the_identity() -> None:
    prompts, of_image = (dict(reversed(one.items())) for one in (PROMPTS, OF_IMAGE))
    assert Classes("kind", PROMPTS, OF_IMAGE).identity == Classes("kind", prompts, of_image).identity
    others = [
        Classes("other", PROMPTS, OF_IMAGE),
        Classes("kind", {**PROMPTS, "dog": ["a dog"]}, OF_IMAGE),
        Classes("kind", PROMPTS, {"1.jpg": ["dog"]}),
    ]
    assert len({one.identity for one in (Classes("kind", PROMPTS, OF_IMAGE), *others)}) == 4
