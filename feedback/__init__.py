"""Words and scores: types, readers, graders, hints and the rewriter. Imports no torch.

Start at `feedback.types` for the nouns, `feedback.readers.read` for a file, `feedback.graders` for what judges a fresh
answer, `feedback.hints` for what only the teacher reads.
"""
