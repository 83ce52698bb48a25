"""What a tokenizer and its chat template make of words: which strings are control tokens, and how turns are written."""
