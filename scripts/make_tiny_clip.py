"""Makes a CLIP of random weights in the layout of transformers.js, pictures for it, and what transformers says of them.

    python scripts/make_tiny_clip.py test/fixtures/tiny_clip

Needs torch, transformers, onnx and pillow. Everything is drawn from one seed; expected.json names the versions.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

SEED = 0
LABELS = ["Robin", "Wren", "Gull", "Crow", "Black-footed_Albatross", "Indigo Bunting"]
TEMPLATE = "a photo of a {}"
SIZES = {"square": (32, 32), "wide": (96, 50), "tall": (41, 77), "large": (200, 190)}
START, END = "<|startoftext|>", "<|endoftext|>"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """CLIP's tokenizer without merges: single bytes, and single bytes that end a word."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), START, END]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [], continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=48,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    tower = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    tokens = dict(
        vocab_size=len(tokenizer),
        max_position_embeddings=48,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = CLIPConfig(
        text_config={**tower, **tokens},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.5)
    return model


class Text(torch.nn.Module):
    def __init__(self, model: CLIPModel):
        super().__init__()
        self.tower, self.projection = model.text_model, model.text_projection

    def forward(self, input_ids, attention_mask):
        return self.projection(self.tower(input_ids=input_ids, attention_mask=attention_mask).pooler_output)


class Vision(torch.nn.Module):
    def __init__(self, model: CLIPModel):
        super().__init__()
        self.tower, self.projection = model.vision_model, model.visual_projection

    def forward(self, pixel_values):
        return self.projection(self.tower(pixel_values=pixel_values).pooler_output)


def export(module, inputs: dict, output: str, axes: dict, file: Path) -> None:
    torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        str(file),
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def make_picture(size: tuple[int, int], draw: np.random.Generator) -> Image.Image:
    """Blobs of colour, so that resizing has something to smooth."""
    coarse = draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)


def main(folder: Path) -> None:
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    target = folder / "model"
    (target / "onnx").mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    model.config.save_pretrained(target)
    tokenizer.save_pretrained(target)
    described = json.loads((target / "tokenizer_config.json").read_text())
    described["tokenizer_class"] = "CLIPTokenizer"
    (target / "tokenizer_config.json").write_text(json.dumps(described, indent=2) + "\n")
    preprocessing = {**processor.to_dict(), "image_processor_type": "CLIPImageProcessor"}
    preprocessing["feature_extractor_type"] = "CLIPFeatureExtractor"
    (target / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2, default=str) + "\n")

    draw = np.random.default_rng(SEED)
    pictures = {name: make_picture(size, draw) for name, size in SIZES.items()}
    for name, picture in pictures.items():
        picture.save(folder / "images" / f"{name}.png")
    texts = [TEMPLATE.format(label.replace("_", " ")) for label in LABELS]
    ids = dict(tokenizer(texts, padding=True, return_tensors="pt"))
    ids = {name: ids[name] for name in ("input_ids", "attention_mask")}
    pixels = processor(list(pictures.values()), return_tensors="pt")
    with torch.no_grad():
        outputs = model(**ids, **pixels)
        export(
            Text(model),
            ids,
            "text_embeds",
            {**{name: {0: "batch", 1: "tokens"} for name in ids}, "text_embeds": {0: "batch"}},
            target / "onnx" / "text_model.onnx",
        )
        export(
            Vision(model),
            dict(pixels),
            "image_embeds",
            {"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}},
            target / "onnx" / "vision_model.onnx",
        )
    expected = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__, "seed": SEED},
        "labels": LABELS,
        "template": TEMPLATE,
        "cosines": {
            name: row for name, row in zip(pictures, (outputs.image_embeds @ outputs.text_embeds.T).tolist())
        },
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
    for name, row in expected["cosines"].items():
        print(name, [round(value, 4) for value in row])


main(Path(sys.argv[1]))
