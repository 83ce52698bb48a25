"""A taskset written for verifiers, as its users write one: what `tests/adapters/verifiers_cases.py` plays."""

import itertools

import verifiers.v1 as vf


class SumData(vf.TaskData):
    answer: str


class SumTaskConfig(vf.TaskConfig):
    tools: bool = False


class Tool(vf.Toolset[vf.ToolsetConfig]):
    """What a policy without tools cannot play with."""


class SumTask(vf.Task[SumData, vf.State, SumTaskConfig]):
    @vf.reward(weight=3.0)
    async def correct(self, task: SumData, trace: vf.Trace) -> float:
        if "broken" in trace.last_reply:
            raise RuntimeError("the grader fell over")
        return 2.0 if trace.last_reply == "twice" else float(trace.last_reply == task.answer)

    @vf.reward(weight=1.0)
    async def short(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) <= 3)

    @vf.metric
    async def length(self, trace: vf.Trace) -> float:
        return len(trace.last_reply) / 10

    @vf.stop
    async def enough(self, trace: vf.Trace) -> bool:
        return trace.num_turns >= 3

    @classmethod
    def toolsets(cls, config: SumTaskConfig) -> list[vf.Toolset]:
        return [Tool(vf.ToolsetConfig())] if config.tools else []


class SumConfig(vf.TasksetConfig):
    task: SumTaskConfig = SumTaskConfig()
    rows: int = 30
    endless: bool = False


class Sums(vf.Taskset[SumTask, SumConfig]):
    @property
    def bounded(self) -> bool:
        return not self.config.endless

    def load(self):
        for n in itertools.count() if self.config.endless else range(self.config.rows):
            asked = {"prompt": f"{n}+{n}?", "system_prompt": "Answer with a number.", "name": f"sum-{n}"}
            data = SumData(answer=str(2 * n), **asked)
            yield SumTask(data, self.config.task)


__all__ = ["Sums"]
