"""Tiny tokenizers in the chat formats of several families: their control tokens, and templates in their layout."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.helpers.tiny import CHAT

LLAMA_3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# The system message goes into the first user turn; what a user says stands between marks.
MISTRAL = (
    "<s>{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}</s>"
    "{% else %}[INST] {{ m['content'] }}[/INST]{% endif %}{% endfor %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'system' %}<<SYS>>\n{{ m['content'] }}\n<</SYS>>\n\n"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }} </s>"
    "{% else %}<s>[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
# Thinking of earlier turns is dropped; the generation prompt opens a new thought.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('</think>')[-1] if m['role'] == 'assistant' else m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}ASSISTANT: {{ m['content'] }}</s>"
    "{% else %}USER: {{ m['content'] }} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
FAMILIES = {
    # name: (template, special tokens with the end token first, added tokens that are not special)
    "chatml": (CHAT, ("<|im_end|>", "<|im_start|>"), ()),
    "llama_3": (LLAMA_3, ("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"), ()),
    "mistral": (MISTRAL, ("</s>", "<s>", "[INST]", "[/INST]"), ()),
    "llama_2": (LLAMA_2, ("</s>", "<s>"), ()),
    "thinking": (THINKING, ("<|im_end|>", "<|im_start|>"), ("<think>", "</think>", "<tool_call>")),
    "plain": (PLAIN, ("</s>",), ()),
}


def tokenizer(family: str, normalising: bool = False) -> PreTrainedTokenizerFast:
    """Bytes and a family's control tokens; ``normalising`` folds wide letters before it looks for added tokens."""
    template, special, added = FAMILIES[family]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if normalising:
        core.normalizer = normalizers.NFKC()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=special[0], pad_token="<|pad|>")
    made.add_special_tokens({"additional_special_tokens": list(special[1:])})
    made.add_tokens(list(added))  # normalised before they are matched, unlike special ones
    made.chat_template = template
    return made
