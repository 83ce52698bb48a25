"""An environment of several turns for verifiers: whoever is wrong reads so and is asked again."""

import asyncio

import verifiers.v1 as vf


class AgainConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()
    tries: int = 3
    fails: bool = False
    slow: float = 0.0


class Again(vf.Env[AgainConfig]):
    async def run(self, task, agents):
        if self.config.fails:
            raise ConnectionError("no game server")
        async with agents.player.interaction(task) as held:
            answer = await held.turn()
            for n in range(self.config.tries - 1):
                if answer.terminated or answer.last_reply == task.data.answer:
                    break
                await asyncio.sleep(self.config.slow)
                held.trace.info["hint"] = f"{answer.last_reply} is wrong"
                answer = await held.turn(f"Wrong, try {n + 2} of {self.config.tries}.")

    async def finalize(self, task, episode):
        (trace,) = episode.traces
        trace.record_metric("turns_left", 1 - trace.num_turns / self.config.tries)


__all__ = ["Again"]
