"""Tables that other programs wrote: what is read, and the sentence about what is not."""

import json
from pathlib import Path

import polars
import pytest

from engine.data.tables import read_records, read_table

LINES = ["image,caption,split", "a.jpg,a lamp,train", "b.jpg,a ball,val", "c.jpg,a chair,test"]


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_blank_lines_and_byte_order_marks_do_not_matter(tmp_path: Path, end: str, mark: str) -> None:
    rows = read_table(written(tmp_path, mark + end.join([*LINES[:2], "", *LINES[2:]]) + end + end, "T.CSV"))
    assert [row["image"] for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
    assert rows[2] == {"image": "c.jpg", "caption": "a chair", "split": "test"}


def test_quotes_inside_of_a_value_and_blanks_before_one_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, 'image, caption\na.jpg,a 12" lamp\nb.jpg, "a ball, red"\nc.jpg,"one ""two""\nthree"\n')
    assert [row["caption"] for row in read_table(path)] == ['a 12" lamp', "a ball, red", 'one "two"\nthree']


@pytest.mark.parametrize(("separator", "name"), [("|", r"'\|'"), (";", "';'"), ("\t", "tabs"), ("| ", r"'\|'")])
def test_other_separators_are_named(tmp_path: Path, separator: str, name: str) -> None:
    text = "\n".join(line.replace(",", separator) for line in LINES).replace("lamp", "lamp, big")
    with pytest.raises(
        ValueError, match=rf"t\.csv: .* separated by {name}, .*; line 1 would be image,caption,split\.$"
    ):
        read_table(written(tmp_path, text))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ValueError, match=r"t\.csv: expected .*\(it .*UTF-(16|32).*, expected UTF-8\)\.$"):
        read_table(written(tmp_path, "\n".join(LINES).encode(encoding)))


def test_line_in_another_encoding_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t\.csv: .*\(line 3 is not in UTF-8; in Latin-1 it is 'b\.jpg,a café'\)\.$"):
        read_table(written(tmp_path, "image,caption\na.jpg,a\nb.jpg,a café\n".encode("latin-1")))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg,a lamp, big,train", r'has 4 values, expected 3: .*; the line would be a\.jpg,"a lamp, big",train'),
        ("a.jpg,a lamp,train,", r"has 4 values, expected 3: .*; the line would be a\.jpg,a lamp,train\)\.$"),
        ("a.jpg,a lamp", r"has 2 values, expected 3: image, caption, split; got a\.jpg,a lamp\)\.$"),
    ],
)
def test_ragged_rows_are_named_with_the_right_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"t\.csv: expected a \.csv table, but .* \(row 2 \(line 4\) {message}"):
        read_table(written(tmp_path, "\n".join([*LINES[:2], "", line])))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('a.jpg,"Stop" reads the lamp,train', r'line would be a\.jpg,"""Stop"" reads the lamp",train\)\.$'),
        ('a.jpg,"a lamp,train', r'got a\.jpg,"a lamp,train\)\.$'),
    ],
)
def test_quotes_that_do_not_end_a_value(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"t\.csv: .*\(line 3 has a quote that does not end its value, .*{message}"):
        read_table(written(tmp_path, "\n".join([*LINES[:2], line, *LINES[2:]])))


@pytest.mark.parametrize("text", ["image,caption,split\n", "image,caption,split"])
def test_header_without_rows(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"t\.csv: there are no rows in it, expected one a caption"):
        read_table(written(tmp_path, text))
    empty = polars.DataFrame(schema={"image": polars.String, "caption": polars.String})
    empty.write_parquet(tmp_path / "t.parquet")
    for path in (tmp_path / "t.parquet", written(tmp_path, "", "t.jsonl")):
        with pytest.raises(ValueError, match="there are no rows in it"):
            read_table(path)


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t\.csv: expected a \.csv table, but it cannot be parsed \(it is empty\)"):
        read_table(written(tmp_path, ""))


COLUMNS = [
    (["image", "caption", "Split"], "'Split' is not a known name, expected 'split'"),
    (["image", "caption", "split "], "'split ' is not a known name, expected 'split'"),
    (["image", "caption", "splits"], "'splits' is not a known name, expected 'split'"),
    (["image", "caption", "spilt"], "'spilt' is not a known name, expected 'split'"),
    (["image", "caption", "Caption"], "'Caption' is not a known name, expected 'caption'"),
    (["image", "Caption", "split"], "'Caption' is not a known name, expected 'caption'"),
    (["Image", "caption", "split"], "'Image' is not a known name, expected 'image'"),
    (["images", "caption", "split"], "'images' is not a known name, expected 'image'"),
    (["image", "caption", "subset"], "the column 'subset' holds splits, expected the name 'split' for it"),
]


@pytest.mark.parametrize(("columns", "message"), COLUMNS)
def test_misspelt_columns(tmp_path: Path, columns: list[str], message: str) -> None:
    rows = [("a.jpg", "a lamp", "train"), ("b.jpg", "a ball", "Test")]
    frame = polars.DataFrame([dict(zip(columns, row, strict=True)) for row in rows])
    frame.write_csv(tmp_path / "t.csv")
    frame.write_ndjson(tmp_path / "t.jsonl")
    frame.write_parquet(tmp_path / "t.parquet")
    for ending in ("csv", "jsonl", "parquet"):
        with pytest.raises(ValueError, match=rf"t\.{ending}: {message}"):
            read_table(tmp_path / f"t.{ending}")


def test_other_columns_are_not_mistaken_for_known_ones(tmp_path: Path) -> None:
    columns = "image,caption,split,image_id,captions_raw,split_id"
    assert len(read_table(written(tmp_path, f"{columns}\na.jpg,a lamp,train,1,2,3\n"))) == 1


def test_column_that_comes_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t\.csv: the column 'caption' comes twice, expected once"):
        read_table(written(tmp_path, "image,caption,caption\na.jpg,one,two\n"))


VALUES = [
    ({"image": "x" * 300}, r"'image' is 'x+\.\.\., expected the name of a file; are columns mixed up\?$"),
    ({"image": "a\0.jpg"}, r"'image' is 'a\\x00\.jpg', expected the name of a file"),
    (
        {"image": {"bytes": "x" * 300, "path": "a"}},
        r"'image' is \{'bytes': 'x+\.\.\., expected .*photos inside of a table",
    ),
    ({"caption": {"en": "a lamp"}}, r"'caption' is \{'en': 'a lamp'\}, expected text"),
    ({"caption": 7}, "'caption' is 7, expected text"),
    ({"caption": True}, "'caption' is True, expected text"),
    ({"caption": []}, r"'caption' is \[\], expected text"),
    ({"caption": ["a", None]}, "'caption' is None, expected text"),
    ({"caption": "['a', 'b']"}, "'caption' is .*, a list in one text"),
    ({"caption": '["a"]'}, "'caption' is .*, a list in one text"),
    ({"caption": "{'raw': 'a'}"}, "'caption' is .*, a list in one text"),
    ({"caption": "[]"}, "'caption' is .*, a list in one text"),
    ({"split": ["test"]}, r"'split' is \['test'\], expected text"),
]


@pytest.mark.parametrize(("value", "message"), VALUES)
def test_values_that_are_not_what_their_column_says(tmp_path: Path, value: dict[str, object], message: str) -> None:
    rows = [{"image": "a.jpg", "caption": "a lamp", "split": "train"}] * 2
    text = "\n".join(map(json.dumps, [rows[0], {**rows[1], **value}]))
    with pytest.raises(ValueError, match=rf"t\.jsonl: row 2: {message}") as caught:
        read_records(written(tmp_path, text, "t.jsonl"))
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


def test_photos_inside_of_a_parquet_table(tmp_path: Path) -> None:
    for image in ({"bytes": bytes(4000), "path": "a.jpg"}, bytes(4000)):
        polars.DataFrame({"image": [image], "caption": ["a lamp"]}).write_parquet(tmp_path / "t.parquet")
        with pytest.raises(ValueError, match=r"row 1: 'image' is .{80}, expected .*; photos inside of a table"):
            read_records(tmp_path / "t.parquet")


def test_brackets_and_quotes_alone_make_no_list(tmp_path: Path) -> None:
    captions = ["[sic] a lamp (red)", "(a lamp)", "[a lamp]", "'a lamp' [1]", '"quoted"']
    text = "\n".join(json.dumps({"image": "a.jpg", "caption": caption}) for caption in captions)
    assert [record.captions for record in read_records(written(tmp_path, text, "t.jsonl"))] == [[c] for c in captions]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b"{nonsense", r"expected a \.jsonl table, but it cannot be parsed \(line 1: "),
        ("t.jsonl", b'{"image": "a", "caption": "b"}\n[1]', r"expected .*\(line 2 is \[1\], expected an object\)"),
        ("t.jsonl", b'{"x":' + b"[" * 5000, r"expected .*\(line 1: it is nested too deeply\)"),
        ("t.jsonl", b'{"x":' + b"9" * 5000 + b"}", r"expected .*\(line 1: an integer in it has thousands of digits"),
        ("t.jsonl", '{"image": "é"}'.encode("latin-1"), r"expected .*\(line 1: line 1 is not in UTF-8; in Latin-1"),
        ("t.parquet", b"PAR0", r"expected a \.parquet table, but it cannot be parsed"),
        ("t.parquet", b"", r"expected a \.parquet table, but it cannot be parsed"),
    ],
)
def test_files_that_cannot_be_parsed(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        read_table(written(tmp_path, content, name))


def test_parquet_is_read_under_any_name(tmp_path: Path) -> None:
    polars.DataFrame({"image": ["a.jpg"], "caption": ["a lamp"]}).write_parquet(tmp_path / "t[1]*.parquet")
    assert read_table(tmp_path / "t[1]*.parquet") == [{"image": "a.jpg", "caption": "a lamp"}]
