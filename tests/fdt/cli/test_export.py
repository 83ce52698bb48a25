"""`fdt export`: what is written opens elsewhere and answers as the trained model does, or nothing is written."""

import json

import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from fdt import __main__ as command
from fdt.cli import export as verb
from fdt.errors import UserError
from fdt.policy import export as trained
from fdt.policy.loading.shards import OTHER, write_contents
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from tests.helpers.run_folder import write_arm

ADAPTERS = LoRA(rank=4, alpha=8.0)


def checkpoint(policy: Policy, path, **changes):
    """The file that `fdt fit` leaves: trainable weights only, after training moved every one of them."""
    torch.manual_seed(1)
    for parameter in policy.get_trainable_parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    names = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items() if name in names}
    content = {"state_dict": weights, "global_step": 7, "fdt": {**policy.describe(), "version": "0.1.0"}}
    torch.save({**content, **changes}, path)
    return path


@pytest.fixture(params=["lora", "tied", "untied"])
def trained_policy(request, tiny_model, tiny_untied_model) -> Policy:
    base = tiny_untied_model if request.param == "untied" else tiny_model
    return Policy(base, ADAPTERS if request.param == "lora" else None, dtype="float32")


@pytest.fixture
def adapted(tiny_model) -> Policy:
    return Policy(tiny_model, ADAPTERS, dtype="float32")


def test_exported_folders_answer_as_the_trained_model(trained_policy, tmp_path, capsys):
    path = checkpoint(trained_policy, tmp_path / "last.ckpt")
    wanted = trained.compute_probe_logits(trained_policy.model.eval(), trained_policy.tokenizer)
    assert command.main(["export", str(path), str(tmp_path / "out")]) == 0
    parts = ["adapter", "merged"] if trained_policy.lora else ["merged"]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["README.md", *parts]
    for part in parts:
        kind = AutoPeftModelForCausalLM if part == "adapter" else AutoModelForCausalLM
        model = kind.from_pretrained(tmp_path / "out" / part).eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / part)
        assert (trained.compute_probe_logits(model, tokenizer) - wanted).abs().max() < 1e-4
        assert f"{part}: logits within" in capsys.readouterr().out or part == "merged"


def test_training_moved_the_logits_so_equality_means_something(adapted, tiny_model, tmp_path):
    before = trained.compute_probe_logits(Policy(tiny_model, dtype="float32").model, adapted.tokenizer)
    checkpoint(adapted, tmp_path / "last.ckpt")
    assert (trained.compute_probe_logits(adapted.model, adapted.tokenizer) - before).abs().max() > 0.05


@pytest.mark.parametrize(("flag", "kept"), [("--merged-only", "merged"), ("--adapter-only", "adapter")])
def test_one_part_alone(adapted, tmp_path, flag, kept):
    path = checkpoint(adapted, tmp_path / "last.ckpt")
    assert command.main(["export", str(path), str(tmp_path / "out"), flag]) == 0
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["README.md", kept]


def test_scale_of_the_adapters_survives(adapted, tmp_path):
    command.main(["export", str(checkpoint(adapted, tmp_path / "last.ckpt")), str(tmp_path / "out")])
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8.0)


def test_card_says_what_it_was_made_from(adapted, tiny_model, tmp_path):
    command.main(["export", str(checkpoint(adapted, tmp_path / "last.ckpt")), str(tmp_path / "out")])
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"base_model: {tiny_model}" in card
    assert "LoRA adapters (rank 4, alpha 8), 7 optimiser steps" in card


def test_differing_logits_leave_nothing_behind(adapted, tmp_path, monkeypatch, capsys):
    path = checkpoint(adapted, tmp_path / "last.ckpt")
    monkeypatch.setattr(verb, "TOLERANCE", -1.0)
    assert command.main(["export", str(path), str(tmp_path / "out")]) == 2
    assert "differ from the trained one's: got" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="the export folder is in use"):
        verb.export(tmp_path / "last.ckpt", tmp_path / "out", ["merged"])
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_run_without_adapters_has_none_to_export(tiny_model, tmp_path):
    path = checkpoint(Policy(tiny_model, dtype="float32"), tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="trained all weights and has no adapter"):
        verb.export(path, tmp_path / "out", ["adapter"])


def test_missing_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        trained.load(tmp_path / "last.ckpt")


def test_a_folder_of_shards_is_read_as_the_file_it_could_have_been(adapted, tmp_path):
    file = checkpoint(adapted, tmp_path / "last.ckpt")
    content = torch.load(file, weights_only=True)
    folder = tmp_path / "step-7.ckpt"
    dcp.save({"state_dict": content["state_dict"], "optimizer_0": {"lr": 0.1}}, checkpoint_id=folder)
    write_contents(folder)
    torch.save({name: value for name, value in content.items() if name != "state_dict"}, folder / OTHER)
    (policy, facts), (wanted, known) = trained.load(folder), trained.load(file)
    assert facts == known and facts["steps"] == 7
    for (name, value), other in zip(policy.state_dict().items(), wanted.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_a_folder_that_another_program_wrote_is_not_read(tmp_path):
    dcp.save({"state_dict": {"policy.w": torch.zeros(2)}}, checkpoint_id=tmp_path / "step-7.ckpt")
    with pytest.raises(UserError, match="no such checkpoint.* or a folder of shards that fdt wrote"):
        trained.load(tmp_path / "step-7.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_damaged_checkpoint(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        trained.load(tmp_path / "last.ckpt")


def test_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"fdt": Payload()}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        trained.load(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_cannot_name_what_is_fetched(adapted, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(trained, "Policy", lambda base, *_, **__: asked.append(base))
    facts = {**adapted.describe(), "model": "somebody/planted", "version": "0.1.0"}
    path = checkpoint(adapted, tmp_path / "last.ckpt", fdt=facts)
    with pytest.raises(UserError, match="not loaded before: got 'somebody/planted'"):
        trained.load(path)
    assert not asked


def test_checkpoint_of_another_program(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="no policy in this checkpoint"):
        trained.load(tmp_path / "last.ckpt")


def test_weights_of_another_base_are_refused(adapted, tmp_path):
    facts = {**adapted.describe(), "lora": {**adapted.describe()["lora"], "rank": 8}, "version": "0.1.0"}
    path = checkpoint(adapted, tmp_path / "last.ckpt", fdt=facts)
    with pytest.raises(UserError, match="weights do not fit"):
        trained.load(path)


def test_weights_that_are_missing_are_refused(adapted, tmp_path):
    path = checkpoint(adapted, tmp_path / "last.ckpt", state_dict={})
    with pytest.raises(UserError, match="weights do not fit"):
        trained.load(path)


def test_card_says_where_a_run_comes_from(adapted, tmp_path):
    run = write_arm(tmp_path / "run")
    facts = [{"command": "fdt fit --data.grader.api_key do-not-print", "commit": "abc", "folder": "/secret/place"}]
    (run / "run.json").write_text(json.dumps(facts))
    path = checkpoint(adapted, run / "checkpoints" / "last.ckpt")
    flags = ["--license", "apache-2.0", "--data-license", "cc-by-4.0"]
    assert command.main(["export", str(path), str(tmp_path / "out"), *flags]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "apache-2.0"
    for part in (
        "- The feedback it learned from: cc-by-4.0.",
        "220 rows = 200 used (150 score and critique, 50 score only)",
        "| distill | `objectives.Distill` | 0.5 |",
        "65.0 [",  # the held-out table
        "![Calibration",
        "- commit: `abc`",
    ):
        assert part in card, part
    assert "do-not-print" not in card
    assert "<script>" not in card  # a reason that rows were dropped for
    assert "/secret/place" not in card
    for folder in (tmp_path / "out", tmp_path / "out" / "adapter", tmp_path / "out" / "merged"):
        assert (folder / "README.md").read_text() == card
        assert list((folder / "figures").glob("calibration*.png"))


def test_card_without_a_run_says_what_nobody_stated(adapted, tmp_path):
    command.main(["export", str(checkpoint(adapted, tmp_path / "last.ckpt")), str(tmp_path / "out")])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- This model: not stated: look it up before you publish this model." in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"
