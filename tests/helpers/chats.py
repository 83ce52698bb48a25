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
# No system role, strict turns; a turn's end that is not the end of sequence; whitespace and HTML are tokens.
GEMMA = (
    "<bos>{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
RUNS = (
    "\n",
    "\n\n",
    "\n\n\n",
    "  ",
    "    ",
    "\t",
    "\t\t",
    "<b>",
    "</b>",
    "<table>",
    "<br>",
    "```",
    "----",
    "|---|",
    "user",
)
# Reasoning and calls as Qwen 3 writes them: tools, calls as objects, thoughts of the last turn alone.
QWEN = (
    "{% if tools %}<|im_start|>system\n# Tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% endif %}{% for m in messages %}"
    "{% if m.role in ['user', 'system'] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant\n"
    "{{ m.content if loop.last else m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% for c in m.tool_calls or [] %}{% if m.content or not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% elif m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TRAITS = {
    # As in FAMILIES, below: traits of tokenizers in wide use that those small formats lack.
    "gemma": (GEMMA, ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), RUNS),
    "qwen": (
        QWEN,
        ("<|im_end|>", "<|im_start|>"),
        ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<|fim_prefix|>"),
    ),
}
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
    template, special, added = (FAMILIES | TRAITS)[family]
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
