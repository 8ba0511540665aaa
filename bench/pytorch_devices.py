"""Times what devices.mjs times, with PyTorch and transformers on a CUDA device, over the folders that it created.

    python bench/pytorch_devices.py FOLDER float32,tf32,bfloat16 5M,40M,200M

bfloat16: training under autocast with float32 weights; rollouts with weights in bfloat16.
"""

import json
import sys
import time

import numpy
import torch
import transformers

from pytorch_batches import PATCH_WIDTH, images, train_batch, with_token_types


def on_device(batch):
    return {name: tensor.cuda() for name, tensor in batch.items()}


def timed(turns, warm, work):
    times = []
    for turn in range(warm + turns):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if turn >= warm:
            times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2] * 1000


def run(folder, precision):
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.manual_seed(1)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).cuda()
    with open(f"{folder}/inputs.json") as file:
        inputs = json.load(file)
    pixels = torch.from_numpy(numpy.fromfile(f"{folder}/pixels.f32", dtype=numpy.float32)).reshape(-1, PATCH_WIDTH)
    narrow = precision == "bfloat16"
    model.train()
    batch = on_device(train_batch(model, inputs, pixels, inputs["rows"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=inputs["learningRate"], weight_decay=0.0, fused=True)
    losses = []

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=narrow):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), inputs["maxGradNorm"])
        optimizer.step()
        losses.append(loss.item())

    step_ms = timed(10, 3, step)
    weights = sum(parameter.numel() for parameter in model.parameters())
    del optimizer
    model.eval()
    if narrow:
        model.to(torch.bfloat16)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ids = torch.tensor(inputs["prompts"])
    prompts = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **images(pixels, len(ids))}
    asked = on_device(with_token_types(model, prompts))
    if narrow:
        asked["pixel_values"] = asked["pixel_values"].to(torch.bfloat16)

    def generate():
        with torch.inference_mode():
            model.generate(
                **asked, do_sample=True, temperature=1.0, top_p=1.0, top_k=0,
                max_new_tokens=inputs["newTokens"], use_cache=True,
            )  # fmt: skip

    rollout_ms = timed(2, 1, generate)
    return {
        "device": torch.cuda.get_device_name(),
        "precision": precision,
        "weights": weights,
        "losses": [losses[0], losses[11]],
        "stepMs": round(step_ms, 2),
        "rolloutMs": round(rollout_ms, 2),
        "tokensPerSecond": round(1000 * len(ids) * inputs["newTokens"] / rollout_ms),
    }


folder, precisions, sizes = sys.argv[1:4]
for size in sizes.split(","):
    for precision in precisions.split(","):
        print(json.dumps({"size": size, "engine": "pytorch", **run(f"{folder}/{size}", precision)}), flush=True)
