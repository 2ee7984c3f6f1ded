"""Multi-task soft actor-critic, with or without PCGrad on the gradients of actor and critics.

Read the modules in this order: `networks` and `losses` (the definitions), `learner` (one update),
`gradients` and `passes` (task gradients of the same losses, by hand), `descent` (from task
gradients to a step), `methods` (what the compared rows change), `collection` (episodes), `loop`
(training), `recording`.

Soft actor-critic follows Haarnoja et al. (2018, "Algorithms and Applications") and softlearning,
the code base that Yu et al. name: squashed Gaussian, twin critics with ½ MSE, automatic temperature
with target entropy −|A|, Adam, soft targets. The multi-task form is that of Appendix J: one-hot
task input, one buffer and one temperature per task, batches balanced over tasks.

All methods run the same code with the same random streams. A `Method` states what it changes.

Choices that the paper and its base code leave open, or that differ from theirs:
 1. "6 fully connected layers" are 6 hidden layers of `width` units, then a linear output.
 2. Surgery acts on actor, Q1 and Q2 separately, each with its own random orders (`critic_surgery:
    joint` takes Q1 and Q2 as one vector). The temperatures are not shared between tasks, so they
    need no surgery.
 3. All parameters of the three networks are shared between tasks; their losses are sums over tasks
    of per-task means. Multi-head networks have an output layer per task, outside surgery;
    independent ones share nothing.
 4. In one update: critics, actor (against the new critics), temperatures, targets.
 5. `updates_per_collection` updates follow each collection (the base code makes one per environment
    step).
 6. The paper's 10 warm-up paths take uniform random actions before collection 1, without updates.
 7. `return` and `success` are measured on the training episodes, with sampled actions and raw
    rewards. `evaluation_return` and `evaluation_success` are measured with the actions tanh(μ),
    after the updates of every `evaluation_every`-th collection and of the last one. With fixed
    goals nothing in such an episode is random, so all episodes of one evaluation are equal.
 8. A time limit is no termination: the target bootstraps from the final observation. Meta-World
    never terminates.
 9. log σ is clipped to [−20, 2].
10. Meta-World 3's simulator and observations (39 numbers: two frames and the goal, not normalized),
    not those of 2019.
11. Each collection starts and ends between episodes, so `samples_per_collection` is a multiple of
    `horizon`.
12. Direction only and magnitude only change the length of the whole update of a network, not of
    each task's gradient.
13. GradNorm (Chen et al. 2018) balances the gradients of the last shared layer. Its training rates
    L_t / L_t(0) are those of the critics' losses; an actor's loss may be negative, so its tasks
    count as equally fast.
14. CosReg (Suteu and Guo 2019) penalizes the cosines of the gradients of the last shared layer.
15. In goal-conditioned pushing α is predicted from the task's code, by one hidden layer of 64 units
    that starts at α = 1.
16. With `overlap` the environments step in a thread (preferably in worker processes) while the
    learner learns. The updates of a collection then do not see its samples, and the actor from
    before these updates plays it. Off by default.
17. With `precision: bfloat16` the products of the hidden layers run in bfloat16; parameters, output
    layers, losses and task gradients stay in float32. Actions are chosen by the float32 parameters.
"""

from multitask.rl.sac.collection import collect
from multitask.rl.sac.learner import Learner
from multitask.rl.sac.loop import draw_orders, train
from multitask.rl.sac.losses import (
    actor_losses,
    critic_losses,
    evaluate,
    sample_actions,
    td_target,
    with_task,
)
from multitask.rl.sac.methods import METHODS, Method

__all__ = [
    "METHODS",
    "Learner",
    "Method",
    "actor_losses",
    "collect",
    "critic_losses",
    "draw_orders",
    "evaluate",
    "sample_actions",
    "td_target",
    "train",
    "with_task",
]
