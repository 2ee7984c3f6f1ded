"""Training: collect, update, record, until all collections are done."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from multitask.rl.fleet import Fleet
from multitask.rl.replay import Batch, Replay
from multitask.rl.sac.collection import collect
from multitask.rl.sac.learner import Learner
from multitask.rl.sac.losses import sample_actions, with_task
from multitask.rl.sac.methods import METHODS
from multitask.rl.sac.recording import COMPONENTS, record_episodes, record_updates
from multitask.runs.checkpoint import Session
from multitask.runs.devices import choose_device
from multitask.runs.errors import UserError
from multitask.runs.records import Records
from multitask.runs.seeding import generator
from pcgrad import fixed_orders, random_orders

STREAMS = ("action", "batch", "update", "order")


def check_settings(settings: dict[str, Any]) -> None:
    """Raises a UserError for settings that contradict each other."""
    # Collections start and end between episodes (choice 11).
    if settings["samples_per_collection"] % settings["horizon"]:
        raise UserError(
            f"samples_per_collection {settings['samples_per_collection']} is no multiple of "
            f"horizon {settings['horizon']}; collections hold whole episodes"
        )
    if settings["warm_up_paths"] < 1:
        raise UserError("warm_up_paths must be at least 1: the first updates need samples")


def draw_orders(kind: str, tasks: int, updates: int, draw: torch.Generator) -> Tensor:
    """Draws the visiting orders of a whole collection, `[updates, 3, T, T-1]`.

    Args:
        kind: "random" draws one order per task, "shared" one for all tasks, "fixed" draws nothing.
        tasks: Number of tasks T.
        updates: Updates in the collection.
        draw: The stream of orders.
    """
    if kind == "fixed":
        return fixed_orders(tasks).expand(updates, len(COMPONENTS), tasks, tasks - 1)
    return random_orders(tasks, draw, batch=(updates, len(COMPONENTS)), shared=kind == "shared")


class Policies:
    """Ways to choose actions: observations `[T, O]` -> actions `[T, A]`.

    All of them draw from one stream of random numbers.
    """

    def __init__(
        self, learner: Learner, fleet: Fleet, stream: torch.Generator, dtype: torch.dtype
    ) -> None:
        self.learner, self.stream, self.dtype = learner, stream, dtype
        self.shape = (len(fleet.names), fleet.action_size)

    def explore(self, _: Tensor) -> Tensor:
        """Draws actions uniformly from [-1, 1], for the warm-up."""
        # Drawn on the CPU like all other noise, so that every device sees the same numbers.
        return 2 * torch.rand(self.shape, generator=self.stream, dtype=self.dtype) - 1

    def sampled(self, observations: Tensor, actor: Sequence[Tensor] | None = None) -> Tensor:
        """Samples actions from the distribution of the learner's actor, or of another one."""
        noise = torch.randn(self.shape, generator=self.stream, dtype=self.dtype)
        return self._act(actor or self.learner.actor, observations, noise)

    def sampled_by_copy(self) -> Callable[[Tensor], Tensor]:
        """Returns `sampled` with a copy of the actor's present parameters."""
        return partial(self.sampled, actor=[p.detach().clone() for p in self.learner.actor])

    def deterministic(self, observations: Tensor) -> Tensor:
        """Returns tanh(μ), for evaluation."""
        noise = torch.zeros(self.shape, dtype=self.dtype)
        return self._act(self.learner.actor, observations, noise)

    @torch.inference_mode()
    def _act(self, actor: Sequence[Tensor], observations: Tensor, noise: Tensor) -> Tensor:
        # The noise comes from the CPU, so that every device plays with the same numbers.
        codes = self.learner.codes
        inputs = with_task(observations.to(codes).unsqueeze(1), codes)
        return sample_actions(actor, inputs, noise.to(codes.device).unsqueeze(1))[0].squeeze(1)


def learn(
    learner: Learner, replay: Replay, streams: dict[str, torch.Generator], settings: dict[str, Any]
) -> list[dict[str, Tensor]]:
    """Makes the updates that follow a collection and returns their logs."""
    updates, size = settings["updates_per_collection"], settings["batch_per_task"]
    codes, tasks = learner.codes, learner.tasks
    # One draw on the CPU for all updates of the collection: every device sees the same numbers.
    indices = replay.draw_indices(updates, size, streams["batch"]).to(codes.device)
    shape = (updates, 2, tasks, size, replay.widths[1])
    noise = torch.randn(shape, generator=streams["update"], dtype=codes.dtype).to(codes.device)
    # A row such as `sac_pcgrad_fixed` replaces the config's order.
    kind = learner.method.order or settings["order"]
    orders = draw_orders(kind, tasks, updates, streams["order"]).to(codes.device)
    scale = settings["reward_scale"]
    if learner.method.normalize_rewards:
        # Measured once per collection: the buffer does not change during the updates.
        scale = scale / replay.reward_deviation().unsqueeze(-1)
    every, logs = settings["curvature_every"], []
    for update in range(updates):
        # Count back from the collection's last update, so that it is always measured.
        measure = every > 0 and (updates - 1 - update) % every == 0
        batch = replay.gather(indices[update])
        # Only the critics see scaled rewards; recorded returns are raw.
        batch = batch._replace(reward=scale * batch.reward)
        logs.append(learner.update(batch, noise[update], orders[update], measure))
    return logs


def evaluation_episodes(settings: dict[str, Any], collection: int) -> int:
    """Returns how many episodes per task evaluate the policy after a collection.

    `final_evaluation_episodes` follow the last collection, `evaluation_episodes` every
    `evaluation_every`-th of the others.
    """
    if collection == settings["collections"]:
        return settings["final_evaluation_episodes"]
    return 0 if collection % settings["evaluation_every"] else settings["evaluation_episodes"]


def play_and_learn(
    fleet: Fleet,
    policies: Policies,
    replay: Replay,
    update: Callable[[], list[dict[str, Tensor]]],
    settings: dict[str, Any],
    when: str = "collection",
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Plays one collection and makes its updates; returns its episodes and the updates' logs.

    With `overlap` both run at once and still repeat bit for bit: a thread plays with a copy of the
    actor, the updates draw from the earlier collections, and the new episodes are stored when both
    have ended.
    """
    episodes = settings["samples_per_collection"] // settings["horizon"]
    if not settings.get("overlap", False):
        return collect(fleet, policies.sampled, episodes, replay.add, when), update()
    # The buffer must not grow while updates read it, so the episodes wait here.
    waiting: list[Batch] = []
    with ThreadPoolExecutor(1, "episodes") as thread:
        playing = thread.submit(
            collect, fleet, policies.sampled_by_copy(), episodes, waiting.append, when
        )
        logs = update()
        played = playing.result()
    for batch in waiting:
        replay.add(batch)
    return played, logs


def train(
    settings: dict[str, Any],
    seed: int,
    session: Session,
    fleet: Fleet,
    *,
    method: str,
    dtype: torch.dtype = torch.float32,
) -> Records:
    """Trains on all tasks and records every collection; resumes from the session's checkpoint.

    Checkpoints are written between collections, where no episode runs: they hold networks,
    optimizers, buffers and generators, but no simulator state.

    Raises:
        UserError: The settings contradict each other, or a loss or gradient is not finite; the
            message names the tasks.
    """
    check_settings(settings)
    device = choose_device(settings["device"])
    names, tasks, codes = fleet.names, len(fleet.names), torch.from_numpy(fleet.codes)
    sizes = (fleet.observation_size, fleet.action_size)
    horizon, samples, last = (
        settings[k] for k in ("horizon", "samples_per_collection", "collections")
    )
    warm_up = settings["warm_up_paths"] * horizon

    learner = Learner(settings, codes, sizes, METHODS[method], seed, device, dtype)
    # A short run does not need the memory of the whole buffer.
    capacity = min(settings["buffer_capacity"], warm_up + last * samples)
    replay = Replay(tasks, capacity, *sizes, dtype, device)
    # One stream for each use, so that a method that draws more of one leaves the others alone.
    streams = {name: generator(seed, name) for name in STREAMS}
    policies = Policies(learner, fleet, streams["action"], dtype)
    records, first = Records(), 1

    # Reads the loop's variables when it is called, so it always has the newest values.
    def state() -> dict[str, Any]:
        return {
            "next": collection + 1,
            "learner": learner.state(),
            "replay": replay.state(),
            "streams": {name: stream.get_state() for name, stream in streams.items()},
            "environments": fleet.state(),
            "records": records.rows,
        }

    # `state` reads the number of the current collection; 0 is the warm-up.
    collection = 0
    saved = session.load(like=state())
    if saved is None:
        record_episodes(
            records,
            0,
            names,
            collect(fleet, policies.explore, settings["warm_up_paths"], replay.add, "warm-up"),
        )
    else:
        with session.restoring():
            # The warm-up always precedes a checkpoint, so the next collection is at least 2.
            first, records = saved["next"], Records(saved["records"])
            if not 1 < first <= last + 1:
                raise ValueError(f"collection {first} of {last}")
            learner.load(saved["learner"])
            replay.load(saved["replay"])
            fleet.load(saved["environments"])
            for name, stream in streams.items():
                stream.set_state(saved["streams"][name])

    label = f"{method}, seed {seed}"
    # Resumed runs show the collections that are done already.
    progress = tqdm(
        range(first, last + 1), label, last, initial=first - 1, unit="collection", disable=None
    )
    for collection in progress:
        episodes, logs = play_and_learn(
            fleet,
            policies,
            replay,
            partial(learn, learner, replay, streams, settings),
            settings,
            f"collection {collection}",
        )
        record_episodes(records, collection, names, episodes)
        progress.set_postfix({"success": f"{episodes['success'].mean():.2f}"})
        record_updates(records, collection, names, logs, learner)
        # Evaluation episodes are not stored (None): nothing is learned from them.
        if paths := evaluation_episodes(settings, collection):
            when = f"evaluation after collection {collection}"
            played = collect(fleet, policies.deterministic, paths, None, when)
            record_episodes(
                records, collection, names, {f"evaluation_{k}": v for k, v in played.items()}
            )
        records.add(
            collection, "all", "environment_steps", tasks * (warm_up + collection * samples)
        )
        records.add(collection, "all", "updates", collection * settings["updates_per_collection"])
        # Before the checkpoint: a stop raises an exception in `tick`.
        session.show(records.rows)
        session.tick(state)
    return records
