"""Episodes and judgements in a file that grows: appended to, brought to the disk, never cleared."""

from feedback.logs.file import LogFile
from feedback.logs.judgements import Judgement, build_feedback_event, collect_items

__all__ = ["Judgement", "LogFile", "build_feedback_event", "collect_items"]
