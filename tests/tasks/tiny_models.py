"""Small models of the full-scale classes with random weights, saved as local checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("a", "red", "blue", "fish", "car", "on", "the", "grass", "one", "realistic", "image", "of")


def clip_folder(folder: Path) -> Path:
    """A random CLIP with OpenAI's tokenizer, which open_clip's package brings."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def siglip_folder(folder: Path) -> Path:
    """A random SigLIP of the shape of ViT-B-16-SigLIP2: timm's encoder, a tokenizer of transformers, no causal mask."""
    import open_clip
    from open_clip.model import CustomTextCLIP
    from safetensors.torch import save_file
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>", *WORDS]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_level(words), pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    model = open_clip.get_model_config("ViT-B-16-SigLIP2")
    model |= {"embed_dim": 64}
    model["vision_cfg"] |= {"image_size": 32, "timm_model_name": "test_vit"}
    small = {"hf_tokenizer_name": str(folder), "vocab_size": len(words), "width": 64, "heads": 2, "layers": 1}
    model["text_cfg"] |= small
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = CustomTextCLIP(**{name: value for name, value in model.items() if name != "custom_text"})
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def qwen_folder(folder: Path) -> Path:
    """A random Qwen3-VL."""
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    words = ["<pad>", "<|im_end|>", "<unk>", *marks, *WORDS]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_level(words), pad_token="<pad>", eos_token="<|im_end|>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "vocab_size": len(words),
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "rope_theta": 10000.0,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "patch_size": 8,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=3,
        video_token_id=4,
        vision_start_token_id=5,
        vision_end_token_id=6,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3VLForConditionalGeneration(config)
        for weight in model.parameters():  # as small as they are drawn, pictures would change no token
            weight.data *= 10 if weight.ndim > 1 else 1
        model.save_pretrained(folder)
    image = Qwen2VLImageProcessor(patch_size=8, size={"shortest_edge": 32**2, "longest_edge": 64**2})
    template = (
        "{% for turn in messages %}{% for part in turn['content'] %}{% if part['type'] == 'image' %}"
        "<|vision_start|> <|image_pad|> <|vision_end|>{% else %} {{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    )
    Qwen3VLProcessor(image, tokenizer, Qwen3VLVideoProcessor(patch_size=8), chat_template=template).save_pretrained(
        folder
    )
    return folder


def blip_folder(folder: Path, spare: int = 2) -> Path:
    """A random BLIP whose vocabulary is padded by ``spare`` entries, as the published one's is."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS, *map(chr, range(33, 127))]
    tokens = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = BertTokenizerFast(vocab=tokens, bos_token="[DEC]", eos_token="[SEP]")
    assert len(tokenizer) == len(tokens)
    size = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    text = {
        **size,
        "vocab_size": len(tokens) + spare,
        "bos_token_id": tokens["[DEC]"],
        "eos_token_id": tokens["[SEP]"],
        "sep_token_id": tokens["[SEP]"],
        "pad_token_id": tokens["[PAD]"],
        "encoder_hidden_size": 16,
        "max_position_embeddings": 64,
    }
    config = BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BlipForConditionalGeneration(config).save_pretrained(folder)
    image = BlipImageProcessor(size={"height": 32, "width": 32}, resample=3)
    BlipProcessor(image, tokenizer).save_pretrained(folder)
    return folder


def blip2_folder(folder: Path) -> Path:
    """A random BLIP-2 on a random OPT."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        OPTConfig,
        PreTrainedTokenizerFast,
    )

    words = ["<pad>", "</s>", "<unk>", "<image>", *WORDS]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_level(words), pad_token="<pad>", eos_token="</s>", bos_token="</s>", unk_token="<unk>"
    )
    size = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**size, image_size=32, patch_size=16).to_dict(),
        qformer_config=Blip2QFormerConfig(**size, vocab_size=16, encoder_hidden_size=16).to_dict(),
        text_config=OPTConfig(
            vocab_size=len(words),
            hidden_size=16,
            word_embed_proj_dim=16,
            ffn_dim=32,
            num_attention_heads=2,
            num_hidden_layers=1,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        ).to_dict(),
        num_query_tokens=4,
        image_token_index=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Blip2ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    BlipImageProcessor(size={"height": 32, "width": 32}, resample=3).save_pretrained(folder)
    return folder


def diffusion_folder(folder: Path) -> Path:
    """A random Stable Diffusion that draws 32 px."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    words = ["<pad>", "<bos>", "<eos>", "<unk>", *WORDS]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_level(words),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=16,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
        )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def sentence_folder(folder: Path) -> Path:
    """A random sentence encoder of the shape of all-mpnet-base-v2."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertTokenizerFast, MPNetConfig, MPNetModel

    part = folder.with_name("transformer")
    tokens = ["<s>", "<pad>", "</s>", "[UNK]", "[MASK]", *WORDS]
    tokenizer = BertTokenizerFast(
        vocab={token: number for number, token in enumerate(tokens)},
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="[UNK]",
        model_max_length=12,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MPNetModel(
            MPNetConfig(
                vocab_size=len(tokens),
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=14,
            )
        ).save_pretrained(part)
    tokenizer.save_pretrained(part)
    transformer = Transformer(str(part), max_seq_length=12)
    SentenceTransformer(modules=[transformer, Pooling(16, "mean")], device="cpu").save(str(folder))
    shutil.rmtree(part)
    return folder


def _word_level(words: list[str]) -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer
