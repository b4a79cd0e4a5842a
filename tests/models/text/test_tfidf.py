import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from engine.io.paths import Paths
from engine.models.text import TextEncoder, tfidf
from engine.models.words import analyzer

CAPTIONS = [
    f"a {size} {colour} {shape} on the {place}"
    for size in ("small", "large")
    for colour in ("red", "blue", "green")
    for shape in ("ball", "box", "star")
    for place in ("grass", "sea")
]


def fitted(paths: Paths, captions: list[str] = CAPTIONS, **options: int) -> tfidf.TfidfEncoder:
    encoder = tfidf.build(paths, **{"dim": 8, **options})
    encoder.fit(captions)
    return encoder


def test_is_a_text_encoder(paths: Paths) -> None:
    assert isinstance(tfidf.build(paths), TextEncoder)


def test_unit_vectors_near_for_like_captions(paths: Paths) -> None:
    encoder = fitted(paths)
    embeddings = encoder.embed(["a red ball on the grass", "a red ball", "a blue box on the sea"])
    assert embeddings.shape == (3, 8)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    similarity = embeddings @ embeddings.T
    assert similarity[0, 1] > similarity[0, 2] + 0.3


def test_the_same_captions_give_the_same_numbers(paths: Paths) -> None:
    one, other = fitted(paths), fitted(paths)
    assert one.key == other.key
    assert torch.equal(one.embed(CAPTIONS), other.embed(CAPTIONS))


def test_the_machine_s_threads_change_no_number(paths: Paths) -> None:
    draws = np.random.default_rng(0)
    captions = [" ".join(draws.choice([f"w{index}" for index in range(300)], 8)) for _ in range(4000)]
    embeddings = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            embeddings.append(fitted(paths, captions, dim=64).embed(captions[:100]))
    assert torch.equal(*embeddings)


def test_unknown_words_give_zero(paths: Paths) -> None:
    assert torch.equal(fitted(paths).embed(["zebra", ""]), torch.zeros(2, 8))


def test_key_tells_options_and_captions_apart(paths: Paths) -> None:
    keys = {
        fitted(paths).key,
        fitted(paths, dim=9).key,
        fitted(paths, ngrams=1).key,
        fitted(paths, CAPTIONS[1:]).key,
        tfidf.build(paths, dim=8).key,
    }
    assert len(keys) == 5


def test_more_components_than_terms(paths: Paths) -> None:
    with pytest.raises(
        ValueError, match=r"text\.dim: 128 is too many for 2 captions with \d+ terms, expected at most 2"
    ):
        fitted(paths, ["red ball", "blue ball"], dim=128).embed(["red ball"])


def test_captions_without_words(paths: Paths) -> None:
    with pytest.raises(ValueError, match=r"captions: none of the 2 training captions holds a word"):
        fitted(paths, ["!", ""]).embed(["!"])


def test_embedding_before_fitting_is_our_mistake(paths: Paths) -> None:
    with pytest.raises(AssertionError, match="fit the encoder"):
        tfidf.build(paths).embed(["red ball"])


SCRIPTS = {  # words of a language, joined by what it puts between them
    "Chinese": ("", ["一只狗", "一只猫", "两个孩子", "草地上", "海边", "奔跑", "玩耍", "骑着自行车", "看着天空"]),
    "Japanese": ("", ["犬が", "猫が", "子供が", "公園で", "海で", "走る", "遊んでいる", "眠る"]),
    "Thai": ("", ["สุนัข", "แมว", "เด็ก", "วิ่ง", "เล่น", "นอน", "บนหญ้า", "ริมทะเล"]),
    "Khmer": ("", ["ឆ្កែ", "ឆ្មា", "ក្មេង", "រត់", "លេង", "គេង", "លើស្មៅ", "ក្បែរសមុទ្រ"]),
    "Lao": ("", ["ໝາ", "ແມວ", "ເດັກ", "ແລ່ນ", "ຫຼິ້ນ", "ນອນ", "ຢູ່ຫຍ້າ"]),
    "Burmese": ("", ["ခွေး", "ကြောင်", "ကလေး", "ပြေး", "ကစား", "အိပ်", "မြက်ပေါ်"]),
    "Hindi": (" ", ["कुत्ता", "बिल्ली", "बच्चा", "दौड़ता", "खेलता", "सोता", "घास", "पर"]),
    "Arabic": (" ", ["كلبٌ", "قطةٌ", "طفلٌ", "يركض", "يلعب", "ينام", "العشب"]),
    "Korean": (" ", ["개가", "고양이가", "아이가", "달린다", "논다", "잔다", "풀밭에서"]),
    "Russian": (" ", ["собака", "кошка", "ребёнок", "бежит", "играет", "спит", "траве"]),
}


@pytest.mark.parametrize("language", SCRIPTS)
def test_captions_of_every_script_have_terms_in_common(language: str, paths: Paths) -> None:
    blank, words = SCRIPTS[language]
    triples = [blank.join((a, b, c)) + "." for a in words for b in words for c in words if len({a, b, c}) == 3]
    encoder = fitted(paths, triples[::2], dim=6)
    vectors = encoder.embed(triples[1::2])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    assert len({tuple(row.tolist()) for row in vectors}) > len(vectors) / 2


def test_vowel_signs_and_accents_do_not_split_words(paths: Paths) -> None:
    terms = analyzer(2)
    assert terms("हिन्दी में") == ["हिन्दी", "में", "हिन्दी में"]
    assert terms("ca" + "fe\u0301 nai\u0308ve") == terms("café naïve") == ["café", "naïve", "café naïve"]
    assert terms("狗a dog。") == ["dog", "狗"]


def test_what_latin_captions_give_is_what_sklearn_gives() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    captions = [*CAPTIONS, "A café, naïve & 3 bicycles_x... don't! STRASSE ﬁ İ ß", "I ❤️ dogs 🙂", ""]
    expected = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    ours = TfidfVectorizer(analyzer=analyzer(2), sublinear_tf=True, dtype=np.float32)
    assert (expected.fit_transform(captions) != ours.fit_transform(captions)).nnz == 0
    assert expected.get_feature_names_out().tolist() == ours.get_feature_names_out().tolist()
