"""Multi-task soft actor-critic, with or without PCGrad on the gradients of actor and critics. One loop.

Reads top to bottom: networks and losses, one update, one collection, training. Soft actor-critic is that of Haarnoja
et al. (2018, "Algorithms and Applications") and of softlearning, the code base that Yu et al. name: squashed
Gaussian, twin critics with ½ MSE, automatic temperature with target entropy −|A|, Adam, soft targets. Multi-task as
in Appendix J: one-hot task input, one buffer and one temperature per task, batches balanced over tasks.

"sac" and "sac_pcgrad" share every line and every random stream; they differ in the weights of the task gradients.

Choices that neither the paper nor its base code fixes, or where this loop leaves them:
 1. "6 fully connected layers" are 6 hidden layers of `width` units, then a linear output.
 2. Surgery acts on actor, Q1 and Q2 separately, each with its own random orders (`critic_surgery: joint` takes Q1 and
    Q2 as one vector). The temperatures are not shared between tasks, so no surgery there.
 3. All parameters of the three networks are shared between tasks; their losses are sums over tasks of per-task means.
 4. In one update: critics, actor (against the new critics), temperatures, targets.
 5. `updates_per_collection` updates follow each collection (the base code makes one per environment step).
 6. The paper's 10 warm-up paths are uniform random actions, before collection 1, without updates.
 7. `return` and `success` are those of the training episodes, with sampled actions and raw rewards;
    `evaluation_return` and `evaluation_success` those of tanh(μ) after the collection's updates.
 8. A time limit is no termination: the target bootstraps from the final observation. Meta-World never terminates.
 9. log σ is clipped to [−20, 2].
10. Meta-World 3's simulator and observations (39 numbers: two frames and the goal, not normalized), not those of 2019.
11. Each collection starts and ends between episodes, so `samples_per_collection` is a multiple of `horizon`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from multitask.checkpoint import Session
from multitask.devices import choose_device
from multitask.errors import UserError, require_finite
from multitask.models.mlp import init_mlp, mlp, per_task, task_gradients
from multitask.records import Records
from multitask.replay import Batch, Replay
from multitask.seeding import generator
from multitask.triad import conflict_statistics, curvature
from pcgrad import fixed_orders, gramian, random_orders, surgery

COMPONENTS = ("actor", "q1", "q2")
STREAMS = ("action", "batch", "update", "order")
LOG_STD_RANGE = (-20.0, 2.0)


class Environment(Protocol):
    """What the loop asks of a task's environment; `multitask.envs.MetaWorld` is one."""

    name: str
    horizon: int
    observation_size: int
    action_size: int

    def reset(self) -> np.ndarray: ...
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, bool]: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


# --- networks and losses: inputs [N, B, ...] for N members, tasks inside B or inside N ------------------------------


def with_task(observation: Tensor) -> Tensor:
    """Append the one-hot of its task to every observation `[T, B, O]` -> `[T, B, O + T]`."""
    tasks, batch = observation.shape[:2]
    one_hot = torch.eye(tasks, dtype=observation.dtype, device=observation.device)
    return torch.cat([observation, one_hot.unsqueeze(1).expand(tasks, batch, tasks)], dim=-1)


def sample_actions(actor: Sequence[Tensor], inputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Squashed Gaussian: actions tanh(μ + σ·noise) `[N, B, A]` and their log-densities `[N, B]`."""
    mean, log_std = mlp(actor, inputs).chunk(2, dim=-1)
    log_std = log_std.clamp(*LOG_STD_RANGE)
    raw = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_tanh_slope = 2 * (math.log(2) - raw - torch.nn.functional.softplus(-2 * raw))  # log(1 − tanh²), stably
    return raw.tanh(), (gaussian - log_tanh_slope).sum(-1)


def evaluate(critics: Sequence[Tensor], inputs: Tensor, actions: Tensor) -> Tensor:
    """Both critics at `[T, B, ...]`: Q `[2, T, B]`."""
    tasks, batch = inputs.shape[:2]
    joined = torch.cat([inputs, actions], dim=-1).flatten(0, 1)
    return mlp(critics, joined.expand(2, *joined.shape)).view(2, tasks, batch)


@torch.no_grad()
def td_target(
    batch: Batch, actor: Sequence[Tensor], targets: Sequence[Tensor], alpha: Tensor, noise: Tensor, *, discount: float
) -> Tensor:
    """r + γ (1 − terminated) [min_n Q̄_n(s', a') − α_t log π(a'|s')] with a' ~ π(·|s'): `[T, B]`."""
    inputs = with_task(batch.next_observation)
    actions, log_density = sample_actions(actor, inputs.flatten(0, 1).unsqueeze(0), noise.flatten(0, 1).unsqueeze(0))
    actions, log_density = actions.view_as(noise), log_density.view_as(batch.reward)
    value = evaluate(targets, inputs, actions).amin(0) - alpha.unsqueeze(-1) * log_density
    return batch.reward + discount * (1 - batch.terminated) * value


def critic_losses(critics: Sequence[Tensor], batch: Batch, target: Tensor) -> Tensor:
    """½ mean_B (Q_n − target)² per critic and task `[2, T]`; critics `[2, ...]`, or `[2·T, ...]` as from `per_task`."""
    joined = torch.cat([with_task(batch.observation), batch.action], dim=-1)
    rows = joined if critics[0].shape[0] == 2 * len(joined) else joined.flatten(0, 1).unsqueeze(0)
    q = mlp(critics, rows.expand(2, *rows.shape).flatten(0, 1)).view(2, *target.shape)
    return 0.5 * (q - target).square().mean(-1)


def actor_losses(
    actor: Sequence[Tensor], critics: Sequence[Tensor], batch: Batch, alpha: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """mean_B [α_t log π(a|s) − min_n Q_n(s, a)] per task `[1, T]`, and log π `[T, B]`.

    The actor is `[1, ...]`, or `[T, ...]` as from `per_task`.
    """
    inputs = with_task(batch.observation)
    members = actor[0].shape[0]
    actions, log_density = sample_actions(
        actor, inputs.reshape(members, -1, inputs.shape[-1]), noise.reshape(members, -1, noise.shape[-1])
    )
    log_density = log_density.view_as(batch.reward)
    value = evaluate(critics, inputs, actions.view_as(noise)).amin(0)
    return (alpha.unsqueeze(-1) * log_density - value).mean(-1).unsqueeze(0), log_density.detach()


# --- one update ------------------------------------------------------------------------------------------------------


class Learner:
    """Networks, temperatures and their optimizers; `update` is one gradient step of everything."""

    def __init__(
        self,
        settings: dict[str, Any],
        sizes: tuple[int, int, int],
        pcgrad: bool,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`sizes`: numbers of tasks, observations and actions."""
        self.tasks, observation, action = sizes
        self.settings, self.pcgrad = settings, pcgrad
        self.reduction, self.joint = settings["reduction"], settings["critic_surgery"] == "joint"
        self.target_entropy = -float(action)
        hidden = [settings["width"]] * settings["layers"]
        draw = generator(seed, "initialization")
        inputs = observation + self.tasks
        self.actor = [p.to(device) for p in init_mlp([inputs, *hidden, 2 * action], 1, draw, dtype)]
        self.critics = [p.to(device) for p in init_mlp([inputs + action, *hidden, 1], 2, draw, dtype)]
        self.targets = [p.clone() for p in self.critics]
        self.log_alpha = torch.zeros(self.tasks, dtype=dtype, device=device)
        self.optimizers = [
            torch.optim.Adam(parameters, lr=settings["learning_rate"], fused=True)
            for parameters in (self.actor, self.critics, [self.log_alpha])
        ]

    def weigh(self, stacks: list[Tensor], orders: Tensor) -> tuple[Tensor, Tensor]:
        """Gramians `[N, T, T]` and weights `[N, T]` of the task gradients `[N, T, ...]` of N members."""
        members = stacks[0].shape[0]
        gramians = torch.stack([gramian([stack[n] for stack in stacks]) for n in range(members)])
        if not self.pcgrad:
            return gramians, torch.full_like(gramians[..., 0], 1.0 if self.reduction == "sum" else 1 / self.tasks)
        if self.joint and members > 1:
            weights = surgery(gramians.sum(0), orders[0], reduction=self.reduction).weights.expand(members, -1)
        else:
            weights = surgery(gramians, orders, reduction=self.reduction).weights
        return gramians, weights

    def step(
        self, parameters: list[Tensor], optimizer: torch.optim.Optimizer, stacks: list[Tensor], weights: Tensor
    ) -> None:
        """Give every member Σ_t w_t g_t and take its optimizer's step."""
        for parameter, stack in zip(parameters, stacks, strict=True):
            w = weights.to(stack.dtype)
            parameter.grad = torch.einsum("nt,nt...->n...", w, stack)
        optimizer.step()

    def update(self, batch: Batch, noise: Tensor, orders: Tensor, measure_curvature: bool) -> dict[str, Tensor]:
        """Critics, actor, temperatures, targets; noise `[2, T, B, A]` (at s', at s), orders `[3, T, T-1]`.

        Returns tensors on the device (no host synchronization): losses `[3, T]`, gramians `[3, T, T]`, weights
        `[3, T]`, and where asked curvature `[2, 3]` (remainder, definition 3) and squared_step `[3]`.
        """
        alpha = self.log_alpha.exp()
        target = td_target(batch, self.actor, self.targets, alpha, noise[0], discount=self.settings["discount"])
        leaves = per_task(self.critics, self.tasks)
        critic_loss = critic_losses(leaves, batch, target)
        critic_stacks = task_gradients(critic_loss, leaves)
        critic_gramians, critic_weights = self.weigh(critic_stacks, orders[1:])
        critics_before = [p.clone() for p in self.critics] if measure_curvature else []
        self.step(self.critics, self.optimizers[1], critic_stacks, critic_weights)

        leaves = per_task(self.actor, self.tasks)
        actor_loss, log_density = actor_losses(leaves, self.critics, batch, alpha, noise[1])
        actor_stacks = task_gradients(actor_loss, leaves)
        actor_gramians, actor_weights = self.weigh(actor_stacks, orders[:1])
        actor_before = [p.clone() for p in self.actor] if measure_curvature else []
        self.step(self.actor, self.optimizers[0], actor_stacks, actor_weights)

        # Loss −Σ_t log α_t · mean_B(log π + target entropy), as the base code has it.
        self.log_alpha.grad = -(log_density.mean(-1) + self.target_entropy)
        self.optimizers[2].step()
        torch._foreach_lerp_(self.targets, self.critics, self.settings["target_rate"])

        log = {
            "losses": torch.cat([actor_loss, critic_loss]).detach(),
            "gramians": torch.cat([actor_gramians, critic_gramians]),
            "weights": torch.cat([actor_weights, critic_weights]),
        }
        if measure_curvature:
            log |= self.curvatures(actor_before, critics_before, batch.to(torch.float64), target, alpha, noise[1])
        return log

    def curvatures(
        self,
        actor_before: list[Tensor],
        critics_before: list[Tensor],
        batch: Batch,
        target: Tensor,
        alpha: Tensor,
        noise: Tensor,
    ) -> dict[str, Tensor]:
        """Curvature of L = Σ_t L_t (actor, Q1, Q2) along the update just made, on its own batch; in float64."""
        critics = [p.double() for p in self.critics]
        actor = curvature(
            lambda p: actor_losses(p, critics, batch, alpha.double(), noise.double())[0].sum(1),
            actor_before,
            self.actor,
        )
        both = curvature(lambda p: critic_losses(p, batch, target.double()).sum(1), critics_before, self.critics)
        steps = [
            torch.stack([(q - p).double().square().flatten(1).sum(1) for p, q in zip(old, new, strict=True)]).sum(0)
            for old, new in ((actor_before, self.actor), (critics_before, self.critics))
        ]
        return {
            "curvature": torch.stack([torch.cat(pair) for pair in zip(actor, both, strict=True)]),
            "squared_step": torch.cat(steps),
        }

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint needs to go on."""
        return {
            "parameters": [self.actor, self.critics, self.targets, [self.log_alpha]],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state()`."""
        mine = [self.actor, self.critics, self.targets, [self.log_alpha]]
        for own, saved in zip(mine, state["parameters"], strict=True):
            for parameter, value in zip(own, saved, strict=True):
                parameter.copy_(value)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


# --- one collection --------------------------------------------------------------------------------------------------


def collect(
    environments: Sequence[Environment],
    policy: Callable[[Tensor], Tensor],
    episodes: int,
    replay: Replay | None,
) -> dict[str, Tensor]:
    """Play whole episodes in all tasks, in lockstep, and store every transition (if there is a buffer).

    `policy`: observations `[T, O]` -> actions `[T, A]`. Returns per task `[T, episodes]`: `return` (undiscounted, raw),
    `success` (at any step) and `success_last` (at the last step).
    """
    found: dict[str, list[list[float]]] = {"return": [], "success": [], "success_last": []}
    for _ in range(episodes):
        observation = np.stack([environment.reset() for environment in environments])
        rows: list[list[np.ndarray]] = []
        total, ever, last = (np.zeros(len(environments)) for _ in range(3))
        running = True
        while running:
            action = policy(torch.from_numpy(observation)).cpu().numpy()
            steps = [environment.step(a) for environment, a in zip(environments, action, strict=True)]
            next_observation, reward, terminated, truncated, success = (
                np.array(part) for part in zip(*steps, strict=True)
            )
            # next_observation is the final one at a time limit: the reset comes later, in the next episode.
            rows.append([observation, action, reward, next_observation, terminated])
            total, ever, last = total + reward, np.maximum(ever, success), success.astype(float)
            observation = next_observation
            ended = terminated | truncated
            running = not ended.any()
        if not ended.all():
            raise RuntimeError("the tasks' episodes ended at different steps; lockstep needs one horizon for all")
        if replay is not None:
            columns = (np.stack(part, axis=1).astype(np.float64) for part in zip(*rows, strict=True))
            replay.add(Batch(*(torch.from_numpy(column) for column in columns)))
        for metric, values in (("return", total), ("success", ever), ("success_last", last)):
            found[metric].append(values.tolist())
    return {metric: torch.tensor(values, dtype=torch.float64).T for metric, values in found.items()}


# --- training --------------------------------------------------------------------------------------------------------


def check_settings(settings: dict[str, Any]) -> None:
    """UserError for settings that contradict each other."""
    if settings["samples_per_collection"] % settings["horizon"]:
        raise UserError(
            f"samples_per_collection {settings['samples_per_collection']} is no multiple of horizon "
            f"{settings['horizon']}; collections hold whole episodes"
        )
    if settings["warm_up_paths"] < 1:
        raise UserError("warm_up_paths must be at least 1: the first updates need samples")


def draw_orders(kind: str, tasks: int, updates: int, draw: torch.Generator) -> Tensor:
    """Visiting orders of a whole collection, `[updates, 3, T, T-1]`: random per task, one shared by all, or fixed."""
    if kind == "fixed":
        return fixed_orders(tasks).expand(updates, len(COMPONENTS), tasks, tasks - 1)
    return random_orders(tasks, draw, batch=(updates, len(COMPONENTS)), shared=kind == "shared")


def train(
    settings: dict[str, Any],
    seed: int,
    session: Session,
    environments: Sequence[Environment],
    *,
    pcgrad: bool,
    dtype: torch.dtype = torch.float32,
) -> Records:
    """Train on all tasks and record every collection; resumes from the session's checkpoint.

    Checkpoints lie between collections, where no episode runs, so that they hold networks, optimizers, buffers and
    generators but no simulator state. UserError that names the task if a loss or gradient is not finite.
    """
    check_settings(settings)
    device = choose_device(settings["device"])
    names, tasks = [environment.name for environment in environments], len(environments)
    observation, action = environments[0].observation_size, environments[0].action_size
    horizon, samples, updates = (settings[k] for k in ("horizon", "samples_per_collection", "updates_per_collection"))

    learner = Learner(settings, (tasks, observation, action), pcgrad, seed, device, dtype)
    warm_up = settings["warm_up_paths"] * horizon
    capacity = min(settings["buffer_capacity"], warm_up + settings["collections"] * samples)
    replay = Replay(tasks, capacity, observation, action, dtype, device)
    streams = {name: generator(seed, name) for name in STREAMS}
    records, first = Records(), 1

    def explore(_: Tensor) -> Tensor:
        return 2 * torch.rand(tasks, action, generator=streams["action"], dtype=dtype) - 1

    def act(observations: Tensor, noise: Tensor) -> Tensor:
        inputs = with_task(observations.to(device, dtype).unsqueeze(1)).view(1, tasks, -1)
        with torch.inference_mode():
            return sample_actions(learner.actor, inputs, noise.to(device))[0][0]

    def sampled(observations: Tensor) -> Tensor:
        return act(observations, torch.randn(1, tasks, action, generator=streams["action"], dtype=dtype))

    def deterministic(observations: Tensor) -> Tensor:
        return act(observations, torch.zeros(1, tasks, action, dtype=dtype))

    def state() -> dict[str, Any]:
        return {
            "next": collection + 1,
            "learner": learner.state(),
            "replay": replay.state(),
            "streams": {name: stream.get_state() for name, stream in streams.items()},
            "environments": [environment.state() for environment in environments],
            "records": records.rows,
        }

    saved = session.load()
    if saved is None:
        record_episodes(records, 0, names, collect(environments, explore, settings["warm_up_paths"], replay))
    else:
        first, records = saved["next"], Records(saved["records"])
        learner.load(saved["learner"])
        replay.load(saved["replay"])
        for name, stream in streams.items():
            stream.set_state(saved["streams"][name])
        for environment, one in zip(environments, saved["environments"], strict=True):
            environment.load(one)

    label = f"{'SAC + PCGrad' if pcgrad else 'SAC'}, seed {seed}"
    last = settings["collections"]
    progress = tqdm(range(first, last + 1), label, last, initial=first - 1, unit="collection", disable=None)
    for collection in progress:
        episodes = collect(environments, sampled, samples // horizon, replay)
        record_episodes(records, collection, names, episodes)
        progress.set_postfix({"success": f"{episodes['success'].mean():.2f}"})

        # Everything random of the coming updates in one draw each, on the CPU: the same on every device.
        shape = (updates, 2, tasks, settings["batch_per_task"], action)
        indices = replay.draw_indices(updates, settings["batch_per_task"], streams["batch"]).to(device)
        noise = torch.randn(shape, generator=streams["update"], dtype=dtype).to(device)
        orders = draw_orders(settings["order"], tasks, updates, streams["order"]).to(device)
        logs = []
        for update in range(updates):
            # The last update of the collection is measured, and every curvature_every-th before it.
            measure = (updates - 1 - update) % settings["curvature_every"] == 0
            batch = replay.gather(indices[update])
            batch = batch._replace(reward=settings["reward_scale"] * batch.reward)
            logs.append(learner.update(batch, noise[update], orders[update], measure))
        record_updates(records, collection, names, logs, learner.log_alpha.exp())
        if settings["evaluation_episodes"]:
            played = collect(environments, deterministic, settings["evaluation_episodes"], None)
            record_episodes(records, collection, names, {f"evaluation_{k}": v for k, v in played.items()})
        records.add(collection, "all", "environment_steps", tasks * (warm_up + collection * samples))
        records.add(collection, "all", "updates", collection * updates)
        session.tick(state)
    return records


def record_episodes(records: Records, collection: int, names: Sequence[str], episodes: dict[str, Tensor]) -> None:
    """Means over the collection's episodes, per task and over tasks; collection 0 is the warm-up."""
    for metric, values in episodes.items():
        for name, value in zip(names, values.mean(1).tolist(), strict=True):
            records.add(collection, name, metric, value)
        records.add(collection, "all", metric, values.mean().item())


def record_updates(
    records: Records, collection: int, names: Sequence[str], logs: list[dict[str, Tensor]], alpha: Tensor
) -> None:
    """The collection's losses, temperatures, conflicts and curvature; first of all, that they are finite."""
    losses, gramians, weights = (
        torch.stack([log[key] for log in logs]).double().cpu() for key in ("losses", "gramians", "weights")
    )
    alpha = alpha.double().cpu()
    squares = gramians.diagonal(dim1=-2, dim2=-1)
    check_finite(losses + squares, names, collection)
    for task, name in enumerate(names):
        records.add(collection, name, "alpha", alpha[task].item())
        for index, component in enumerate(COMPONENTS):
            records.add(collection, name, f"loss_{component}", losses[:, index, task].mean().item())
            records.add(collection, name, f"gradient_norm_{component}", squares[:, index, task].sqrt().mean().item())
    for index, component in enumerate(COMPONENTS):
        for metric, value in conflict_statistics(gramians[:, index], weights[:, index]).items():
            records.add(collection, "all", f"{metric}_{component}", value)
    measured = [log for log in logs if "curvature" in log]
    curvatures = torch.stack([log["curvature"] for log in measured]).mean(0).cpu()
    squared_steps = torch.stack([log["squared_step"] for log in measured]).mean(0).cpu()
    for index, component in enumerate(COMPONENTS):
        records.add(collection, "all", f"curvature_remainder_{component}", curvatures[0, index].item())
        records.add(collection, "all", f"curvature_definition3_{component}", curvatures[1, index].item())
        records.add(collection, "all", f"squared_step_{component}", squared_steps[index].item())


def check_finite(values: Tensor, names: Sequence[str], collection: int) -> None:
    """UserError that names the tasks whose loss or gradient broke first; values `[U, 3, T]` are nan or inf there.

    The networks are shared, so that one update later every task is broken; within an update the critics come first.
    """
    bad = ~values.isfinite()
    if bad.any():
        update = int(bad.any(-1).any(-1).nonzero()[0])
        critics, actor = values[update, 1:].sum(0), values[update, 0]
        first = critics if not critics.isfinite().all() else actor
        require_finite(dict(zip(names, first.tolist(), strict=True)), f"collection {collection}, update {update + 1}")
