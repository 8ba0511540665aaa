"""Repeats the TAPO step that scripts/dump-tapo-step.mjs wrote with transformers, torch.autograd and torch.optim.AdamW, and
compares losses, terms, gradient norm and the weights after it.

python scripts/check_tapo_step.py CHECKPOINT OUT    exits 1 where a figure differs by more than the tolerances below

Every answer is a forward pass of its own: no batches, no padding, no shared prompts. Loss, advantages, the sizes of groups and
updates, and whose layout an image is scored in are written down here anew from the method's description.
"""

import json
import math
import sys

import torch
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration

FIGURES = 2e-5  # losses, terms, gradient norm: absolute, float32
WEIGHTS = 2e-4  # largest distance of a weight after the step, of learning rate 0.01

folder, out = sys.argv[1:]
step = json.load(open(f"{out}/step.json"))
images = load_file(f"{out}/images.safetensors")


def opened(path):
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


model = opened(folder).train(False)
reference = opened(folder).train(False)


def grid_of(prompt):
    return torch.tensor([step["grids"][prompt["image"]]])


def log_probs(of, group, view, answer):
    """Of an answer under an image: pixels are the image's, tokens and positions its own or the anchor's."""
    shown = group["prompts"][view]
    layout = group["prompts"]["anchor"] if step["viewLayout"] == "anchor" else shown
    ids = torch.tensor([layout["ids"] + answer])
    mask = torch.ones_like(ids)
    types = (ids == of.config.image_token_id).int()
    positions, _ = of.model.get_rope_index(ids, types, image_grid_thw=grid_of(layout), attention_mask=mask)
    logits = of(
        input_ids=ids,
        attention_mask=mask,
        mm_token_type_ids=types,
        position_ids=positions,
        pixel_values=images[f"image_{shown['image']}"],
        image_grid_thw=grid_of(shown),
    ).logits[0]
    first = len(layout["ids"]) - 1
    chosen = torch.log_softmax(logits[first : first + len(answer)].float() / step["temperature"], dim=-1)
    return chosen.gather(1, torch.tensor(answer)[:, None])[:, 0]


def k3(own, other):
    u = torch.clamp(other - own, -20, 20)
    return torch.clamp(torch.exp(u) - u - 1, -10, 10)


# How many groups of how many answers a step has: without a positive image the released code counts each group as half of one.
asked, updates = step["asked"], step["updates"]
halves = 1 if step["hasPositive"] else 2
sizes = [len(group["rollouts"]) for update in updates for group in update]
assert sizes == [2 * asked["rollouts"] // halves] * (asked["groupsPerStep"] * halves), sizes
assert len(updates) == asked["updatesPerStep"] * halves, len(updates)

# Advantages, and what is constant during the step.
for update in step["updates"]:
    for group in update:
        rewards = torch.tensor([0.9 * r["score"]["accuracy"] + 0.1 * r["score"]["format"] for r in group["rollouts"]])
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for rollout, advantage in zip(group["rollouts"], advantages):
            with torch.no_grad():
                rollout["old"] = log_probs(model, group, rollout["view"], rollout["tokenIds"])
                rollout["negative"] = log_probs(model, group, "negative", rollout["tokenIds"])
                rollout["reference"] = log_probs(reference, group, rollout["view"], rollout["tokenIds"])
            rollout["advantage"] = advantage

settings = step["loss"]
matrices = [p for p in model.parameters() if p.ndim >= 2]
vectors = [p for p in model.parameters() if p.ndim < 2]
optimizer = torch.optim.AdamW(
    [{"params": matrices, "weight_decay": step["weightDecay"]}, {"params": vectors, "weight_decay": 0.0}],
    lr=step["learningRate"],
    betas=(0.9, 0.999),
    eps=step["epsilon"],
)
NAMES = ["policy", "negativeKl", "negativeEntropy", "ownEntropy", "referenceKl", "imitation"]
SIGNS = {"policy": 1.0, "negativeKl": -settings["negativeKl"]["coefficient"]}
low, high = math.log(1 - settings["clipLow"]), math.log(1 + settings["clipHigh"])


def token_values(group, rollout):
    """Of every term the value at each token of one answer, and where the ratio is clipped."""
    own = log_probs(model, group, rollout["view"], rollout["tokenIds"])
    negative = rollout["negative"]
    if settings["negativeBranch"] == "trained":
        negative = log_probs(model, group, "negative", rollout["tokenIds"])
    delta = torch.clamp(own - rollout["old"], -20, 20)
    free = -rollout["advantage"] * torch.exp(delta)
    bounded = -rollout["advantage"] * torch.exp(torch.clamp(delta, low, high))
    policy = torch.maximum(free, bounded)
    if rollout["advantage"] < 0:
        policy = torch.minimum(policy, -rollout["advantage"] * settings["dualClip"])
    divergence = k3(own, negative)
    if settings["negativeKl"]["isMasked"]:
        divergence = divergence * (divergence >= torch.quantile(divergence.detach(), 1 - step["topShare"]))
    return {
        "policy": policy,
        "negativeKl": divergence,
        "negativeEntropy": -negative,
        "ownEntropy": -own,
        "referenceKl": k3(own, rollout["reference"]),
        "imitation": -own if rollout["score"]["accuracy"] > 0.1 else own[:0],
        "clippedShare": (bounded > free).float(),
    }


def mean_terms(values):
    joined = {name: torch.cat([value[name] for value in values]) for name in [*NAMES, "clippedShare"]}
    return {name: part.mean() if len(part) else torch.tensor(0.0) for name, part in joined.items()}


reports = []
for update in step["updates"] * step["passes"]:
    answers = [token_values(group, rollout) for group in update for rollout in group["rollouts"]]
    size = step["answersPerMean"] or len(answers)
    means = [mean_terms(answers[at : at + size]) for at in range(0, len(answers), size)]
    terms = {name: sum(mean[name] for mean in means) / len(means) for name in means[0]}
    loss = sum(terms[name] * (SIGNS.get(name) or settings[name]["coefficient"]) for name in NAMES)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), step["maxGradNorm"])
    optimizer.step()
    report = {name: value.item() for name, value in terms.items()}
    reports.append({**report, "loss": loss.item(), "gradNorm": norm.item()})

theirs = {name: sum(report[name] for report in reports) / len(reports) for name in reports[0]}
ours = {**step["figures"]["terms"], "loss": step["figures"]["loss"], "gradNorm": step["figures"]["gradNorm"]}
worst = 0.0
for name, value in theirs.items():
    worst = max(worst, abs(value - ours[name]))
    print(f"{name:16} torch {value: .7f}  fr1 {ours[name]: .7f}  difference {abs(value - ours[name]):.1e}")
after = dict(opened(f"{out}/after").named_parameters())
before = dict(opened(folder).named_parameters())
distance = max((value - after[name]).abs().max().item() for name, value in model.named_parameters())
moved = max((value - before[name]).abs().max().item() for name, value in model.named_parameters())
print(f"weights after {len(reports)} updates: largest difference {distance:.1e}, largest movement {moved:.1e}")
sys.exit(1 if worst > FIGURES or distance > WEIGHTS else 0)
