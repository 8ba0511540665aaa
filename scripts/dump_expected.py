"""Records what transformers computes with a Qwen2.5-VL checkpoint, for `fr1 parity`.

    python scripts/dump_expected.py CHECKPOINT OUT --row 5,56x84,9 --row 3,28x28,2,84x28,7 [--pad left]
    fr1 parity CHECKPOINT OUT/expected.safetensors --grads OUT/grads.safetensors --generate OUT/generate.safetensors

A row is a list of text lengths (tokens, drawn at random) and image sizes (height x width in pixels, multiples of the
merged patch, drawn at random); it starts and ends with text. `--inputs FILE` takes a batch of your own instead: a
safetensors file with input_ids, attention_mask, labels and, where there are images, pixel_values and image_grid_thw.

fr1 compares all that these files hold and refuses tensors of other names. Weights without a gradient are not in the file: fr1 counts
them as agreeing where its own gradient is 0, and lists the others.

Everything is computed in float32 on the CPU with eager attention. Greedy tokens ignore the end-of-text token, and prompts
with images must hold whole images. Large models: --no-grads; float32 weights take 4 bytes each.
Needs torch, transformers (>= 4.49) and safetensors.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint")
parser.add_argument("out", type=Path)
parser.add_argument("--row", action="append", default=[], help="e.g. 5,56x84,9; may be repeated")
parser.add_argument("--inputs", help="safetensors file with the batch")
parser.add_argument("--pad", choices=["left", "right"], default="left")
parser.add_argument("--label-from", type=int, default=None, help="labels only the last N tokens of a row")
parser.add_argument("--new-tokens", type=int, default=16, help="greedy tokens; 0 for none")
parser.add_argument("--no-grads", action="store_true", help="leave out the gradients")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--adapter", help="PEFT adapter folder over the checkpoint")
arguments = parser.parse_args()
if bool(arguments.row) == bool(arguments.inputs):
    parser.error("give either --row or --inputs")

model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
    arguments.checkpoint, dtype=torch.float32, attn_implementation="eager"
).eval()
config = model.config
vision = config.vision_config
if arguments.adapter:
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, arguments.adapter, is_trainable=True).eval()
generator = torch.Generator().manual_seed(arguments.seed)


def random_batch():
    """Rows of random text around random images, padded on one side."""
    vocabulary = getattr(config, "text_config", config).vocab_size
    special = {config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id}
    usable = torch.tensor([token for token in range(vocabulary) if token not in special])
    text = lambda count: usable[torch.randint(len(usable), (count,), generator=generator)].tolist()
    rows, pixels, grids = [], [], []
    for spec in arguments.row:
        ids = []
        for part in spec.split(","):
            if "x" not in part:
                ids += text(int(part))
                continue
            height, width = (int(side) // vision.patch_size for side in part.split("x"))
            tokens = height * width // vision.spatial_merge_size**2
            ids += [config.vision_start_token_id] + [config.image_token_id] * tokens + [config.vision_end_token_id]
            patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
            pixels.append(torch.randn(height * width, patch, generator=generator))
            grids.append([1, height, width])
        rows.append(ids)
    longest = max(map(len, rows))
    batch = {name: torch.zeros(len(rows), longest, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    batch["labels"] = torch.full((len(rows), longest), -100)
    for b, ids in enumerate(rows):
        start = longest - len(ids) if arguments.pad == "left" else 0
        row = torch.tensor(ids)
        batch["input_ids"][b, start : start + len(ids)] = row
        batch["attention_mask"][b, start : start + len(ids)] = 1
        first = max(1, len(ids) - arguments.label_from) if arguments.label_from else 1
        labels = row.clone()
        labels[:first] = -100
        for token in special:
            labels[row == token] = -100
        batch["labels"][b, start : start + len(ids)] = labels
    if pixels:
        batch |= {"pixel_values": torch.cat(pixels), "image_grid_thw": torch.tensor(grids)}
    return batch


BATCH = ("input_ids", "attention_mask", "labels", "pixel_values", "image_grid_thw")
if arguments.inputs:
    # The file may hold expected values besides, as those that this script writes do.
    batch = {name: tensor for name, tensor in load_file(arguments.inputs).items() if name in BATCH}
else:
    batch = random_batch()
inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
inputs["mm_token_type_ids"] = (batch["input_ids"] == config.image_token_id).int()
inner = model.get_base_model() if arguments.adapter else model
output = model(**inputs, labels=batch["labels"])
expected = dict(batch)
expected["logits"] = output.logits.detach()
expected["loss"] = output.loss.detach().reshape(1)
if "pixel_values" in batch:
    features = inner.model.get_image_features(batch["pixel_values"], batch["image_grid_thw"])
    features = getattr(features, "pooler_output", features)
    expected["image_embeds"] = torch.cat(list(features)).detach()
positions = inner.model.get_rope_index(
    **{
        name: inputs.get(name)
        for name in ("input_ids", "image_grid_thw", "attention_mask", "mm_token_type_ids")
        if name in inner.model.get_rope_index.__code__.co_varnames
    }
)
expected["position_ids"], expected["rope_deltas"] = positions[0], positions[1]
arguments.out.mkdir(parents=True, exist_ok=True)
save_file({name: tensor.contiguous() for name, tensor in expected.items()}, arguments.out / "expected.safetensors")
print(f"loss {output.loss.item():.6f}, input_ids {list(batch['input_ids'].shape)}")

if not arguments.no_grads:
    output.loss.backward()
    grads = {name: p.grad.contiguous() for name, p in model.named_parameters() if p.grad is not None}
    save_file(grads, arguments.out / "grads.safetensors")
    print(f"{len(grads)} gradients")

if arguments.new_tokens:
    # Row by row, so that no padding takes part.
    rows, image = [], 0
    inner.generation_config.eos_token_id = None
    for b in range(len(batch["input_ids"])):
        real = batch["attention_mask"][b].bool()
        ids = batch["input_ids"][b][real][None]
        own = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        own["mm_token_type_ids"] = (ids == config.image_token_id).int()
        left = int((ids == config.image_token_id).sum())
        first = image
        while left > 0:
            left -= int(batch["image_grid_thw"][image].prod()) // vision.spatial_merge_size**2
            image += 1
        if image > first:
            patches = batch["image_grid_thw"].prod(-1)
            start = int(patches[:first].sum())
            own["image_grid_thw"] = batch["image_grid_thw"][first:image]
            own["pixel_values"] = batch["pixel_values"][start : start + int(patches[first:image].sum())]
        with torch.no_grad():
            generated = model.generate(
                **own,
                do_sample=False,
                max_new_tokens=arguments.new_tokens,
                repetition_penalty=1.0,
                pad_token_id=0,
            )
        rows.append(generated[0, ids.shape[1] :])
    save_file({"generated": torch.stack(rows).contiguous()}, arguments.out / "generate.safetensors")
