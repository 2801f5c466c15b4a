"""The Hugging Face directory of a revision: configuration, tokenizer, chat template, weights."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PAD, UNKNOWN, NEWLINE = "<pad>", "<unk>", "\n"
CHARACTERS = [chr(code) for code in range(32, 127)]
VOCABULARY = {token: index for index, token in enumerate([PAD, UNKNOWN, NEWLINE, *CHARACTERS])}
MAX_POSITIONS = 1024
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
)
"""Lines, the last one the question: a line break as text, since templates drop one that follows a block."""


def encode(text: str) -> list[int]:
    """Token ids of text in printable ASCII and newlines, as the tokenizer of the checkpoint gives them."""
    return [VOCABULARY[character] for character in text]


def new_model() -> Qwen2ForCausalLM:
    """The untrained model: 2 layers of width 128, weights in float32, drawn from torch's global generator."""
    config = Qwen2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=128,
        intermediate_size=288,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=VOCABULARY[NEWLINE],
        pad_token_id=VOCABULARY[PAD],
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.do_sample = False
    return model


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character; the newline, which ends an answer, is the end-of-sequence token."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (PAD, UNKNOWN, NEWLINE)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=NEWLINE,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )


def save(model: Qwen2ForCausalLM, directory: Path, serving: dict[str, int] | None = None) -> None:
    """Write a revision; `serving` becomes serving.json, the revision's serving settings."""
    model.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)  # written for its owner alone, but served by another user
    new_tokenizer().save_pretrained(directory, save_jinja_files=False)
    if serving is not None:
        (directory / "serving.json").write_text(json.dumps(serving) + "\n")


def load(directory: Path) -> Qwen2ForCausalLM:
    """The model of a revision, in float32 and ready to generate."""
    model: Qwen2ForCausalLM = Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    model.requires_grad_(False)
    return model
