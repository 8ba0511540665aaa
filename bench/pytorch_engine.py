"""PyTorch and transformers behind the same requests as fr1-engine.mjs: one JSON request a line, one answer a line."""

import json
import resource
import sys
import time

import numpy
import torch
import transformers

from pytorch_batches import IGNORED, PATCH_WIDTH, images, train_batch, with_token_types

state = {}


def open_(dir, threads, work, attention, trainRows, learningRate, maxGradNorm):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        dir, dtype=torch.float32, attn_implementation=attention
    )
    with open(f"{dir}/inputs.json") as file:
        inputs = json.load(file)
    pixels = torch.from_numpy(numpy.fromfile(f"{dir}/pixels.f32", dtype=numpy.float32)).reshape(-1, PATCH_WIDTH)
    state.update(model=model, inputs=inputs, pixels=pixels, max_grad_norm=maxGradNorm)
    if work == "train":
        model.train()
        state["batch"] = train_batch(model, inputs, pixels, trainRows)
        state["optimizer"] = torch.optim.AdamW(model.parameters(), lr=learningRate, weight_decay=0.0, fused=True)
    else:
        model.eval()
        # Nothing ends a text, so that all have the same length.
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
    return {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}}


def log_probs():
    batch = dict(state["batch"])
    labels = batch.pop("labels")[:, 1:]
    start = time.perf_counter()
    with torch.inference_mode():
        scores = state["model"](**batch).logits[:, :-1].log_softmax(-1)
    picked = scores.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "values": picked[labels != IGNORED].tolist()}


def train():
    model, optimizer = state["model"], state["optimizer"]
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = model(**state["batch"], use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), state["max_grad_norm"])
    optimizer.step()
    return {"seconds": time.perf_counter() - start, "loss": loss.item()}


def generate(prompts, samples, newTokens, greedy=False):
    ids = torch.tensor(state["inputs"]["prompts"][:prompts])
    batch = with_token_types(
        state["model"],
        {"input_ids": ids, "attention_mask": torch.ones_like(ids), **images(state["pixels"], prompts)}
    )
    how = {"do_sample": False} if greedy else {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
    start = time.perf_counter()
    with torch.inference_mode():
        out = state["model"].generate(
            **batch, **how, max_new_tokens=newTokens, num_return_sequences=samples, use_cache=True
        )
    seconds = time.perf_counter() - start
    made = out[:, ids.shape[1] :]
    assert made.shape == (prompts * samples, newTokens), made.shape
    return {"seconds": seconds, "tokens": made.tolist() if greedy else None}


def matmul(n):
    a = torch.full((n, n), 1 / n)
    start = time.perf_counter()
    torch.mm(a, a)
    return {"seconds": time.perf_counter() - start}


def memory():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": peak * (1 if sys.platform == "darwin" else 1024)}


REQUESTS = {
    "open": open_,
    "logProbs": log_probs,
    "train": train,
    "generate": generate,
    "matmul": matmul,
    "memory": memory,
}

for line in sys.stdin:
    options = json.loads(line)
    before = time.process_time()
    answer = REQUESTS[options.pop("request")](**options)
    print(json.dumps({**answer, "cpuSeconds": time.process_time() - before}), flush=True)
