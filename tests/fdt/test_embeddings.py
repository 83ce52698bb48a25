"""Sentences as vectors: a tiny encoder for the arithmetic, the real model for the meaning."""

import numpy as np
import pytest

from fdt.embeddings import SentenceModel
from fdt.errors import UserError
from fdt.policy.hub import EMBEDDER, get_cache_root
from tests.helpers.encoders import save_embedder


def test_embeddings_do_not_depend_on_the_batch(tmp_path):
    embedder = str(save_embedder(tmp_path / "embedder"))
    phrases = ["we let x", "so the answer is", "alpha", "we let x"]
    told = []
    found = SentenceModel(embedder, batch=2)(phrases, told.append)
    assert told == [2, 4] and np.allclose(np.linalg.norm(found, axis=1), 1)
    assert np.allclose(found, np.concatenate([SentenceModel(embedder)([phrase]) for phrase in phrases]), atol=1e-5)
    assert np.allclose(found[0], found[3], atol=1e-6) and SentenceModel(embedder)([]).shape == (0, 1)


def test_a_text_longer_than_the_model_reads_is_cut_at_its_end(tmp_path):
    embedder = SentenceModel(str(save_embedder(tmp_path / "embedder")))  # 32 positions
    long = embedder(["alpha " * 32 + "beta " * 100])
    assert np.allclose(long, embedder(["alpha " * 32]), atol=1e-6)


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_folder_without_a_model_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="no(t a)? (embedding )?model"):
        SentenceModel(str(tmp_path))(["x"])


def test_the_real_model_knows_what_sentences_mean():
    if not (get_cache_root() / EMBEDDER / "config.json").is_file():
        pytest.skip(f"{EMBEDDER} is not cached; `fdt model {EMBEDDER}` fetches it")
    model = SentenceModel()
    near, same, far = model(["How do I add two numbers?", "Calculating the sum of a pair", "The cat slept on the sofa"])
    assert near.shape == (384,) and near @ same > 0.4 > 0.2 > near @ far
    assert model._loaded is model._loaded  # loaded once
