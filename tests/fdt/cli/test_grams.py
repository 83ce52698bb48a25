"""`fdt grams`: from a file of scored solutions to the phrases they share, with and without an embedding model."""

import json

import numpy as np

from fdt.__main__ import main
from fdt.cli.clusters import choose_cluster_count, kmeans
from fdt.data.markers import StrategicGrams
from tests.helpers.encoders import save_embedder

RIGHT = [
    "First we let x be two. So the answer is two.",
    "We let x be three! So the answer is three.",
    "Now let x be one. So the answer is one.",
]
WRONG = ["I do not know at all.", "I do not know at all, sorry."]


def solutions(folder, extra: str = ""):
    path = folder / "solutions.jsonl"
    rows = [
        {"id": f"r{n}", "prompt": f"{n}?", "response": text, "score": float(text in RIGHT)}
        for n, text in enumerate(RIGHT + WRONG)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + extra)
    return path


def test_without_a_model_each_gram_is_a_cluster(tmp_path, capsys):
    out = tmp_path / "grams.json"
    assert main(["grams", str(solutions(tmp_path)), "--out", str(out), "--words", "3", "4"]) == 0
    content = json.loads(out.read_text())
    # In three solutions: "let x be", "so the answer", "the answer is", "so the answer is"; in two: "we let x" and
    # "we let x be". A fifth of six, rounded up, is two; all of them occur three times, so the names decide.
    assert [item["gram"] for item in content["grams"]] == ["let x be", "so the answer"]
    assert all(item["frequency"] == item["solutions"] == 3 for item in content["grams"])
    assert (content["solutions"], content["embedder"], content["words"], content["rare"]) == (3, None, [3, 4], 2)
    assert "2 grams of 2 clusters, from 3 distinct correct solutions" in capsys.readouterr().out
    (found,) = StrategicGrams(str(out)).find_spans("I LET x be")
    assert found.gram == "let x be"


def test_with_a_model_paraphrases_share_a_cluster(tmp_path):
    embedder, out = save_embedder(tmp_path / "embedder"), tmp_path / "grams.json"
    asked = ["grams", str(solutions(tmp_path)), "--out", str(out), "--embedder", str(embedder), "--clusters", "3"]
    assert main([*asked, "--top-share", "1"]) == 0
    content = json.loads(out.read_text())
    assert len({item["cluster"] for item in content["grams"]}) == 3 and content["embedder"] == "embedder"
    assert len({(item["cluster"], item["frequency"]) for item in content["grams"]}) == 3
    assert main([*asked, "--top-share", "0.2"]) == 0
    (kept,) = {item["cluster"] for item in json.loads(out.read_text())["grams"]}
    assert kept == 0
    again = out.read_text()
    assert main([*asked, "--top-share", "0.2"]) == 0 and out.read_text() == again


def test_k_means_finds_directions():
    random = np.random.default_rng(1)
    directions = np.eye(4)[:3]
    points = np.repeat(directions, 20, axis=0) + 0.1 * random.standard_normal((60, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    for seed in range(5):
        found = kmeans(points.astype(np.float32), 3, seed)
        assert [len(set(found[start : start + 20])) for start in (0, 20, 40)] == [1, 1, 1] and len(set(found)) == 3
    assert kmeans(points, 3, 0) == kmeans(points, 3, 0)
    assert sorted(kmeans(directions, 9)) == [0, 1, 2] and kmeans(np.zeros((0, 1)), 2) == []
    assert kmeans(np.repeat(directions[:1], 5, axis=0), 3) == [0] * 5
    assert [choose_cluster_count(n) for n in (0, 1, 10, 11)] == [1, 1, 1, 2]


def test_mistakes_are_refused(tmp_path, capsys):
    path, out = str(solutions(tmp_path)), str(tmp_path / "grams.json")
    for asked, words in (
        (["--top-share", "0"], "share above 0"),
        (["--min-solutions", "0"], "at least 1"),
        (["--clusters", "3"], "--embedder"),
        (["--min-score", "2"], "no correct solutions"),
        (["--min-solutions", "9"], "Lower --min-solutions"),
        (["--embedder", str(tmp_path)], "not a model folder"),
    ):
        assert main(["grams", path, "--out", out, *asked]) == 2
        assert words in capsys.readouterr().err
    assert main(["grams", path, "--out", str(tmp_path / "no" / "where.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["grams", str(solutions(tmp_path, '{"prompt": "?"}\n')), "--out", out]) == 1
    assert not (tmp_path / "grams.json").exists()
