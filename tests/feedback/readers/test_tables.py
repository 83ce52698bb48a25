"""What spreadsheets, pandas and databases write: delimiters, decimals, flags, and floats that were integers."""

from decimal import Decimal

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_with_report

CELLS = [["prompt", "response", "score"], ["Name a bird.", "A wren.", "4,5"], ["Name a bird.", "A carp.", "1"]]


@pytest.mark.parametrize(
    ("ending", "delimiter", "first"),
    [("csv", ";", ""), ("csv", "\t", ""), ("tsv", "\t", ""), ("tab", "\t", ""), ("csv", ";", "sep=;\r\n")],
)
def test_tables_of_spreadsheets_are_read_with_their_decimal_comma(tmp_path, ending, delimiter, first):
    text = first + "".join(delimiter.join(cells) + "\r\n" for cells in CELLS)
    (tmp_path / f"f.{ending}").write_bytes(b"\xef\xbb\xbf" + text.encode())
    high, low = read(tmp_path / f"f.{ending}", scale=(1, 5))
    assert (high.task.messages[0]["content"], high.response, low.response) == ("Name a bird.", "A wren.", "A carp.")
    assert (high.score, low.score) == (0.875, 0)  # (4.5 - 1) / 4
    assert high.id == ("line-3" if first else "line-2")


def test_a_comma_in_a_cell_of_a_comma_table_is_no_decimal(tmp_path):
    (tmp_path / "f.csv").write_text('prompt,response,score\np,"a;b;c","4,5"\n')
    with pytest.raises(DataError, match="score: got '4,5', expected a finite number"):
        read(tmp_path / "f.csv", scale=(1, 5))


def test_a_workbook_is_named(tmp_path):
    (tmp_path / "f.csv").write_bytes(b"PK\x03\x04\x14\x00\x06\x00")
    with pytest.raises(DataError, match="got a spreadsheet's workbook.*Save its sheet as CSV in UTF-8"):
        read(tmp_path / "f.csv")


def test_decimals_are_numbers_and_need_a_scale(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"id": 1.0, "prompt": "p", "response": "a", "score": Decimal("4.5")}]
    rows.append({"id": 2.0, "prompt": "p", "response": "b", "score": Decimal("1.0")})
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "f.parquet")
    episodes, refused = read_with_report(tmp_path / "f.parquet", lenient=True)
    assert episodes == [] and "scores run from 1 to 4.5" in str(refused[1])
    first, second = read(tmp_path / "f.parquet", scale=(1, 5))
    assert (first.score, second.score) == (0.875, 0)
    assert (first.id, second.id) == ("1", "2")  # pandas makes floats of integers with a gap between them


@pytest.mark.parametrize("words", [("True", "False"), ("1", "0"), ("TRUE", "no"), ("desirable", "undesirable")])
def test_labels_of_a_table_are_read(tmp_path, words):
    rows = "".join(f"p,{number},{word}\n" for number, word in enumerate(words))
    (tmp_path / "f.csv").write_text("prompt,completion,label\n" + rows)
    assert [episode.score for episode in read(tmp_path / "f.csv")] == [1, 0]


def test_a_rating_in_the_column_label_is_refused_with_the_map_that_reads_it(tmp_path):
    (tmp_path / "f.csv").write_text("prompt,completion,label\np,a,4\n")
    with pytest.raises(DataError, match="label: got '4', expected true or false.*--map score=label"):
        read(tmp_path / "f.csv")
    assert read(tmp_path / "f.csv", scale=(1, 5), columns={"score": "label"})[0].score == 0.75


def test_a_column_that_is_empty_in_the_first_row_still_says_the_format(tmp_path):
    (tmp_path / "f.csv").write_text("prompt,response,score\np,,\np,b,1\n")
    episodes, (fault,) = read_with_report(tmp_path / "f.csv", lenient=True)
    assert (fault.line, fault.field, episodes[0].score) == (2, "response", 1)


def test_bars_part_cells_and_blanks_round_a_header_are_none_of_its_names(tmp_path):
    (tmp_path / "f.csv").write_text(" prompt | response | score\np|a|0,5\n")
    (episode,) = read(tmp_path / "f.csv")
    assert (episode.response, episode.score) == ("a", 0.5)


def test_another_encoding_has_its_own_remedy(tmp_path):
    (tmp_path / "f.csv").write_bytes("prompt,response\nwie geht's,schön\n".encode("latin-1"))
    with pytest.raises(DataError, match="got byte 0xf6 .* expected CSV in UTF-8. Save the file as UTF-8.$"):
        read(tmp_path / "f.csv")


def test_a_line_of_blank_cells_is_no_header(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text(" ;\x0c;\t\nprompt;response;score\na?;x;1\n")
    assert [(found.response, found.score) for found in read(path)] == [("x", 1.0)]
    path.write_text(" ;\x0c\n\t;\n")
    with pytest.raises(DataError):
        read(path)
