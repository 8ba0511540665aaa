"""Batches for transformers' Qwen2.5-VL out of what bench/fr1-engine.mjs and bench/devices.mjs create."""

import torch

PATCHES = 64
PATCH_WIDTH = 1176
IGNORED = -100


def images(pixels, count):
    """What the model takes for one image a row."""
    return {
        "pixel_values": pixels[: count * PATCHES],
        "image_grid_thw": torch.tensor([[1, 8, 8]] * count),
    }


def with_token_types(model, batch):
    batch["mm_token_type_ids"] = (batch["input_ids"] == model.config.image_token_id).long()
    return batch


def train_batch(model, inputs, pixels, rows):
    sequences = list(zip(inputs["prompts"][:rows], inputs["responses"][:rows]))
    longest = max(len(prompt) + len(response) for prompt, response in sequences)
    ids = torch.zeros(rows, longest, dtype=torch.long)
    mask = torch.zeros(rows, longest, dtype=torch.long)
    labels = torch.full((rows, longest), IGNORED)
    for row, (prompt, response) in enumerate(sequences):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.tensor(prompt + response)
        mask[row, :length] = 1
        labels[row, len(prompt) : length] = torch.tensor(response)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels, **images(pixels, rows)}
    return with_token_types(model, batch)
