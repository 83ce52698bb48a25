"""The policy: a causal LM with optional LoRA adapters, whose log-probs never need full logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from fdt.data.batch import View
from fdt.data.chat.probe import measure_template
from fdt.data.chat.template import find_stop_ids, set_further_stops, set_template_variables
from fdt.errors import UserError
from fdt.policy.activation_cache import ActivationCache
from fdt.policy.forward import build_hidden_fn
from fdt.policy.hub import resolve_model
from fdt.policy.loading.first_rank import LoadedFacts, build_empty
from fdt.policy.loading.self_check import check_log_probs, find_positions
from fdt.policy.loading.versions import describe_policy
from fdt.policy.lora import LoRA, add_adapters, check_targets, report_frozen
from fdt.policy.products.frozen_linear import FrozenProducts
from fdt.policy.products.grouped_attention import use_grouped_attention
from objectives import TokenLogProbs
from objectives.vocabulary.products import has_native_bfloat16
from objectives.vocabulary.token_log_probs import LogProbKernel


def choose_fast_dtype(device: torch.device | None = None) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, float32 elsewhere (emulated bfloat16 is about 9x slower).

    ``device`` is the trainer's; by default a card where there is one.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device.type
    native = torch.cuda.is_bf16_supported(including_emulation=False) if kind == "cuda" else has_native_bfloat16()
    return torch.bfloat16 if native else torch.float32


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Policy(nn.Module):
    """Loads the base, adds adapters, computes log-probs of views. ``causal`` is the bare causal LM, which ``model`` may
    wrap for PEFT.

    Args:
        base: model alias, local folder or hub id.
        lora: adapters, or None to train all weights.
        dtype: auto, float32 or bfloat16: the dtype of the frozen base, or of all weights without LoRA.
        gradient_checkpointing: recompute activations in the backward pass (less memory, about a third more time).
        seed: seed of the adapters' initial values, so that every rank and every restart begins with the same ones.
        template_variables: what the chat template reads beside the messages, such as enable_thinking.
        device: the trainer's, by which ``auto`` chooses the dtype; by default a card where there is one.
        facts: of the first rank, which alone loads the weights; here they are left on the meta device. None: loaded.
    """

    autocast_dtype: torch.dtype | None = None
    """What the trainer's precision multiplies in, where that is not the weights' own dtype."""
    log_prob_kernel: LogProbKernel | None = None
    """Gives the target tokens' log-probs in place of the chunked path (`fdt.policy.products.fused_log_probs`)."""

    def __init__(
        self,
        base: str,
        lora: LoRA | None = None,
        dtype: str = "auto",
        gradient_checkpointing: bool = False,
        seed: int = 0,
        template_variables: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
        facts: LoadedFacts | None = None,
    ) -> None:
        super().__init__()
        folder = resolve_model(base)
        kind = choose_dtype(dtype, lora, device)
        with explain_load_errors(base):
            self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            causal = load_weights(folder, kind) if facts is None else build_empty(folder, kind, facts)
        check_tokenizer(self.tokenizer, base)
        set_template_variables(self.tokenizer, template_variables or {})
        set_further_stops(self.tokenizer, getattr(causal.generation_config, "eos_token_id", None))
        check_head(causal, base)
        use_grouped_attention(causal)
        self.packs = check_log_probs(causal, self.tokenizer, base) if facts is None else facts.packs
        """Whether rows that share a prompt are read together; not where a state runs through the row."""
        self.positions = find_positions(causal)
        """Most tokens of a row that the model has positions for; None where it does not say."""
        check_targets(causal, lora)
        report_frozen(causal, lora)
        if gradient_checkpointing:
            enable_checkpointing(causal)
        self.base, self.lora = base, lora
        with nullcontext() if facts is None else torch.device("meta"):
            self.model: nn.Module = causal if lora is None else add_adapters(causal, lora, seed)
        self.train_dtype = {p.dtype for p in self.get_trainable_parameters()}
        self.frozen_products = FrozenProducts()
        self.activation_cache: ActivationCache | None = None
        if lora is not None and lora.activation_cache_folder is not None:
            self.activation_cache = ActivationCache(self.causal, min(lora.layers or [0]), lora.activation_cache_folder)

    @property
    def causal(self) -> PreTrainedModel:
        """The causal LM itself: what FSDP2 shards and what generates."""
        model: Any = self.model
        return model if self.lora is None else model.get_base_model()

    @property
    def head(self) -> Tensor:
        """The LM head's weight ``[V, D]`` (shared with the embedding where the model ties them)."""
        head: Any = self.causal.get_output_embeddings()
        return head.weight

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer, the one that the chat template writes after a turn first, then the tokenizer's and
        those of the model's generation config."""
        return find_stop_ids(self.tokenizer)

    @property
    def device(self) -> torch.device:
        return next(self.causal.parameters()).device

    def get_trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters with a gradient, in a stable order."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def compute_log_probs(self, view: View) -> TokenLogProbs:
        """Log-probs of a view's N target tokens, with a lazy head: hidden ``[N, D]`` is made, logits are not."""
        hidden = self.compute_hidden(view)
        targets = view.tokens[view.target] if view.layout is None else view.layout.targets
        index = torch.arange(hidden.shape[0], device=hidden.device)
        return TokenLogProbs(hidden, self.head, targets, index, self.log_prob_kernel)

    def compute_hidden(self, view: View) -> Tensor:
        """Hidden states ``[N, D]`` that predict the target tokens, row-major; prompts shared by rows are read once."""
        reader = getattr(self.causal, "fdt_hidden", None)
        return (reader or build_hidden_fn(self.causal, self.activation_cache, self.packs))(view)

    @contextmanager
    def prepare_decoding(self) -> Iterator[None]:
        """While this lasts no weight changes and no gradient passes, so that what forwards read is laid out once."""
        if self.lora is None:
            with self.frozen_products.use(self.causal, {}), keep_casts(self.device.type):
                yield
            return
        from fdt.policy.products.adapted_linear import cast_factors, find_linear_adapters

        with self.frozen_products.use(self.causal, find_linear_adapters(self.model)), cast_factors(self.model):
            yield

    def describe(self) -> dict[str, Any]:
        """What an export needs to rebuild this policy: `model` (name or folder) and `lora` (dict or None)."""
        return describe_policy(self.base, self.lora)


@contextmanager
def keep_casts(device: str) -> Iterator[None]:
    """While this lasts, autocast casts each weight once, not for every token; Lightning has it keep nothing. What it
    kept is dropped at the end: it is older than the next weights, and no gradient flows through it."""
    if not torch.is_autocast_enabled(device):
        yield
        return
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(True)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
        torch.clear_autocast_cache()


@contextmanager
def explain_load_errors(base: str) -> Iterator[None]:
    """
    Raises:
        UserError: where transformers cannot load a model, with the first line of what it said.
    """
    try:
        yield
    except (OSError, ValueError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise UserError(
            f"cannot load {base!r}: {reason}", key="model.base", remedy="name a folder or hub id with a causal LM"
        ) from fault


def load_weights(folder: str, dtype: torch.dtype) -> PreTrainedModel:
    """The causal LM of a folder, in evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")


def choose_dtype(name: str, lora: LoRA | None, device: torch.device | None = None) -> torch.dtype:
    """The dtype to load in: ``auto`` is the fast one under LoRA, float32 (master weights) without."""
    if name == "auto":
        return torch.float32 if lora is None else choose_fast_dtype(device)
    if name not in DTYPES:
        raise UserError("model.dtype", got=name, expected="auto, float32 or bfloat16")
    if DTYPES[name] is torch.bfloat16 and lora is None:
        raise UserError(
            "model.dtype: full weights in bfloat16 round small updates away (lr 1e-5 moves almost nothing)",
            got=name,
            expected="float32 master weights",
            remedy="model.dtype float32 with trainer.precision bf16-mixed, or train LoRA adapters",
        )
    return DTYPES[name]


def find_autocast_dtype(context: Callable[[], AbstractContextManager], device: torch.device) -> torch.dtype | None:
    """What the trainer's precision multiplies in under its context; None where that is the weights' own dtype."""
    with context():
        enabled = torch.is_autocast_enabled(device.type)
        return torch.get_autocast_dtype(device.type) if enabled else None


def enable_checkpointing(causal: PreTrainedModel) -> None:
    """Recomputes activations in the backward pass."""
    causal.gradient_checkpointing_enable({"use_reentrant": False})


def check_tokenizer(tokenizer: Any, base: str) -> None:
    """Pads with the end-of-sequence token where there is no padding token.

    Raises:
        UserError: where the tokenizer has no chat template, one that takes too long, or no end-of-sequence token.
    """
    if tokenizer.chat_template is None:
        raise UserError(f"model.base: the tokenizer of {base!r} has no chat template", remedy="use an instruct model")
    sources = (
        tokenizer.chat_template.values() if isinstance(tokenizer.chat_template, dict) else [tokenizer.chat_template]
    )
    if excess := next(filter(None, map(measure_template, sources)), None):
        raise UserError(
            f"model.base: the chat template of {base!r} takes {excess} for three short messages",
            remedy="it would hang the run: read it before you use it",
        )
    if tokenizer.eos_token_id is None:
        raise UserError(f"model.base: the tokenizer of {base!r} has no end-of-sequence token", remedy="set eos_token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def check_head(causal: PreTrainedModel, base: str) -> None:
    """
    Raises:
        UserError: where the head changes the logits after the matrix product, which the chunked head does not compute.
    """
    head = causal.get_output_embeddings()
    if head is None:
        raise UserError(f"model.base: {base!r} has no LM head", expected="a causal LM")
    config = causal.config.get_text_config()
    if getattr(config, "final_logit_softcapping", None) or getattr(head, "bias", None) is not None:
        raise UserError(f"model.base: {base!r} caps its logits or has a head bias; the chunked head supports neither")
    if getattr(config, "logit_scale", None) not in (None, 1.0):
        raise UserError(f"model.base: {base!r} scales its logits (logit_scale); the chunked head does not support it")
