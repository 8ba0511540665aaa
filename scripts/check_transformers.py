"""Loads a model folder with transformers and compares its logits with those that scripts/dump-logits.mjs wrote.

python scripts/check_transformers.py CHECKPOINT DUMP.safetensors [ADAPTER]

ADAPTER is a LoRA adapter that is put on the model with peft. Exits 1 beyond 1e-3, with missing or unexpected keys, or when
peft puts the adapter on other layers than the file has matrices for.
"""

import sys

import torch
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration

folder, dump, *adapter = sys.argv[1:]
model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
)
wrong_layers = set()
if adapter:
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, adapter[0])
    stored = load_file(f"{adapter[0]}/adapter_model.safetensors")
    placed = [module for name, module in model.named_modules() if name.endswith("lora_A.default")]
    print(f"peft adapted {len(placed)} layers, the file holds {len(stored) // 2}")
    if len(placed) * 2 != len(stored):
        wrong_layers.add("number of layers")
model.eval()
ours = load_file(dump)
ids = ours["input_ids"].long()[None]
with torch.no_grad():
    theirs = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        pixel_values=ours["pixel_values"],
        image_grid_thw=ours["image_grid_thw"].long()[None],
    ).logits[0]
first = int(ours["first"].item())
count = ours["logits"].shape[0]
difference = (theirs[first : first + count] - ours["logits"]).abs().max().item()
missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
print(f"missing keys {missing}, unexpected keys {unexpected}")
print(f"logits [{count}, {theirs.shape[-1]}]: largest difference {difference:.2e}, largest value {theirs.abs().max():.2f}")
sys.exit(1 if difference > 1e-3 or missing or unexpected or wrong_layers else 0)
