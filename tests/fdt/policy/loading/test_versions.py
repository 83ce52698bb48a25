"""Checkpoints of another version or another policy end in one message."""

import pytest

from fdt import __version__
from fdt.errors import UserError
from fdt.policy.loading.versions import check_saved_policy, describe_policy, read_lora
from fdt.policy.lora import LoRA

OWN = describe_policy("base", LoRA(rank=4, activation_cache_folder="cache"))
OLD = {"rank": 4, "alpha": 32.0, "dropout": 0.0, "targets": "all-linear", "layers": None}
"""What version 0.1 wrote."""


def check(facts, resumes=True):
    check_saved_policy({"fdt": facts}, OWN, resumes)


def test_what_this_version_wrote_passes():
    assert "activation_cache_folder" not in OWN["lora"]
    check(OWN | {"version": __version__})
    check(OWN | {"version": __version__ + ".post1"})


def test_a_run_of_another_version_cannot_go_on_but_its_weights_are_read():
    old = {"model": "base", "lora": OLD, "version": "0.1.0"}
    with pytest.raises(UserError, match=r"ckpt_path: .*another version.*got '0\.1\.0'.*`fdt export` its weights"):
        check(old)
    with pytest.raises(UserError, match="got 'unknown'"):
        check({"model": "base", "lora": OLD})
    check(old, resumes=False)
    check(old | {"lora": OLD | {"trunk_folder": None}}, resumes=False)
    assert read_lora({"lora": OLD | {"trunk_folder": None}}) == LoRA(rank=4)
    assert read_lora({"lora": None}) is None


@pytest.mark.parametrize("facts", [{"model": "other", "lora": OWN["lora"]}, {"model": "base", "lora": None}])
def test_another_policy_is_refused(facts):
    with pytest.raises(UserError, match="holds another policy"):
        check(facts, resumes=False)


def test_a_checkpoint_without_a_policy_is_refused():
    with pytest.raises(UserError, match="no policy in this checkpoint"):
        check_saved_policy({"state_dict": {}}, OWN, resumes=False)
