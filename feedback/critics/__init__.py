"""What judges an episode: `Critic`, and the rule-based ones."""

from feedback.critics.base import Critic
from feedback.critics.number import NumberMatch

__all__ = ["Critic", "NumberMatch"]
