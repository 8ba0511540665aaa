"""Fine-tuning of transformers' Qwen2.5-VL on chats with photos, the same work as fr1's stage sft; prints a line of JSON.

Takes one argument, JSON: model, data, out, attention, steps, microBatch, maxPixels, learningRate, threads. An update takes all chats.
"""

import json
import os
import sys
import time

import torch
import transformers
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

IGNORED = -100
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"

options = json.loads(sys.argv[1])
torch.set_num_threads(options["threads"])
torch.manual_seed(1)
start = time.perf_counter()

model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    options["model"], dtype=torch.float32, attn_implementation=options["attention"]
)
model.train()
tokenizer = transformers.AutoTokenizer.from_pretrained(options["model"])
images = Qwen2VLImageProcessorPil.from_pretrained(options["model"], max_pixels=options["maxPixels"])
optimizer = torch.optim.AdamW(model.parameters(), lr=options["learningRate"], weight_decay=0.0, fused=True)
with open(os.path.join(options["data"], "data.json")) as file:
    chats = json.load(file)


def encoded(chat):
    """Token ids of a chat, its labels, and what the model takes for its photo."""
    photo = Image.open(os.path.join(options["data"], chat["images"][0])).convert("RGB")
    pixels = images(photo, return_tensors="pt")
    count = int(pixels["image_grid_thw"].prod()) // images.merge_size**2
    ids, labels = [], []
    for message in chat["messages"]:
        content = message["content"].replace("<image>", IMAGE).replace("<|image_pad|>", "<|image_pad|>" * count)
        head = tokenizer(f"<|im_start|>{message['role']}\n")["input_ids"]
        body = tokenizer(f"{content}<|im_end|>\n")["input_ids"]
        ids += head + body
        labels += [IGNORED] * len(head) + (body if message["role"] == "assistant" else [IGNORED] * len(body))
    return ids, labels, pixels


def batch_of(chats):
    rows = [encoded(chat) for chat in chats]
    longest = max(len(ids) for ids, _, _ in rows)
    padded = lambda values, by: torch.tensor([list(row) + [by] * (longest - len(row)) for row in values])
    ids = padded([ids for ids, _, _ in rows], tokenizer.pad_token_id)
    return {
        "input_ids": ids,
        "attention_mask": padded([[1] * len(ids) for ids, _, _ in rows], 0),
        "labels": padded([labels for _, labels, _ in rows], IGNORED),
        "mm_token_type_ids": (ids == model.config.image_token_id).long(),
        "pixel_values": torch.cat([pixels["pixel_values"] for _, _, pixels in rows]),
        "image_grid_thw": torch.cat([pixels["image_grid_thw"] for _, _, pixels in rows]),
    }, sum(len(ids) for ids, _, _ in rows)


losses, tokens, targets = [], 0, 0
for _ in range(options["steps"]):
    size = options["microBatch"]
    batches = [batch_of(chats[at : at + size]) for at in range(0, len(chats), size)]
    count = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch, _ in batches)
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for batch, _ in batches:
        loss = model(**batch, use_cache=False, num_items_in_batch=count).loss
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    losses.append(total)
    targets += count
    tokens += sum(count for _, count in batches)
model.save_pretrained(options["out"])
print(json.dumps({"seconds": time.perf_counter() - start, "losses": losses, "tokens": tokens, "targets": targets}))
