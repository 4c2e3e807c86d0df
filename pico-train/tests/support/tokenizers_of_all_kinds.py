"""Tokenizers of the kinds that are published, trained on a few lines: every step that changes ids is in one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "The quick brown fox jumps over the lazy dog. 1234567 of them, don't they?\n\nNext: def f(x):\n    return x + 1\n",
    "Größe, naïve café — ½ of it; 汉字和假名 かな カナ。\n新しい行\n한국어 문장 하나\nрусский текст, и ещё\n",
    "http://example.org/a/b?c=d&e=f\n/path\t\ttabs\r\nwindows  two   three    four\n",
] * 4
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel.alphabet()


def _bpe(pre, normalizer=None, *, alphabet=BYTES, **model) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre
    if alphabet is BYTES:
        tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    special = [name for name in (model.get("unk_token"), "<|endoftext|>") if name]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def gpt2() -> Tokenizer:
    return _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))


def roberta() -> Tokenizer:
    return _bpe(pre_tokenizers.ByteLevel(add_prefix_space=True))


def neox() -> Tokenizer:
    """NFC, and runs of spaces as tokens that are looked for before the text is split."""
    tokenizer = _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    tokenizer.add_tokens(["|||EMAIL|||"])
    return tokenizer


def _split(pattern: str, behavior: str, *, invert: bool = False):
    parts = [pre_tokenizers.Split(Regex(pattern), behavior, invert=invert)]
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama3() -> Tokenizer:
    return _bpe(_split(CL100K, "isolated"))


def gpt4o() -> Tokenizer:
    return _bpe(_split(O200K, "removed", invert=True))


def starcoder() -> Tokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return _bpe(pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def llama2() -> Tokenizer:
    """As Llama 2 and Mistral: the text is one word, ▁ before it and for each space, bytes for what is not known."""
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer = _sentencepiece_bpe(pre_tokenizers.Metaspace(prepend_scheme="never"))
    content = json.loads(tokenizer.to_str())
    content["normalizer"] = json.loads(_with_normalizer(normalizers.Sequence(steps)))
    content["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(content))


def _with_normalizer(normalizer) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    return json.dumps(json.loads(tokenizer.to_str())["normalizer"])


def _sentencepiece_bpe(pre) -> Tokenizer:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = _bpe(pre, alphabet="▁", unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {token: len(vocabulary) + place for place, token in enumerate(bytes_)}
    return Tokenizer.from_str(json.dumps(content))


def metaspace_always() -> Tokenizer:
    return _sentencepiece_bpe(pre_tokenizers.Metaspace(prepend_scheme="always"))


def metaspace_first() -> Tokenizer:
    return _sentencepiece_bpe(pre_tokenizers.Metaspace(prepend_scheme="first"))


def metaspace_unsplit() -> Tokenizer:
    tokenizer = metaspace_first()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = metaspace_unsplit()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return tokenizer


def bert() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", "<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _unigram(pre, normalizer) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "<|endoftext|>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def t5() -> Tokenizer:
    steps = [normalizers.NFKC(), normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    return _unigram(pre_tokenizers.Metaspace(prepend_scheme="always"), normalizers.Sequence(steps))


def albert() -> Tokenizer:
    steps = [normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")])
    return _unigram(pre, normalizers.Sequence(steps))


def unigram_unsplit() -> Tokenizer:
    """One word whatever its length, the best of all paths: no place to cut is known."""
    tokenizer = t5()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    return tokenizer


def bloom() -> Tokenizer:
    """A pattern with a class in a class: not read."""
    return _bpe(_split(r" ?[^(\s|[.,!?…。，、।۔،])]+", "isolated"))


def rstripped() -> Tokenizer:
    """A token that takes the white space behind it."""
    tokenizer = gpt2()
    tokenizer.add_tokens([AddedToken("dog", rstrip=True)])
    return tokenizer


def single_words() -> Tokenizer:
    tokenizer = roberta()
    tokenizer.add_tokens([AddedToken("fox", single_word=True, lstrip=True), AddedToken("naïve", normalized=False)])
    return tokenizer


def two_words() -> Tokenizer:
    """A token that holds a space."""
    tokenizer = gpt2()
    tokenizer.add_tokens([AddedToken("lazy dog")])
    return tokenizer


CUT: dict[str, Callable[[], Tokenizer]] = {
    build.__name__: build
    for build in (
        *(gpt2, roberta, neox, llama3, gpt4o, starcoder, llama2, metaspace_always, metaspace_first, metaspace_unsplit),
        *(gemma, bert, t5, albert, single_words),
    )
}
"""Tokenizers whose texts can be cut before a single space."""
WHOLE: dict[str, Callable[[], Tokenizer]] = {build.__name__: build for build in (unigram_unsplit, bloom, rstripped)}
"""Tokenizers whose texts are not cut."""
LINES: dict[str, Callable[[], Tokenizer]] = {"two_words": two_words}
"""Tokenizers whose texts can be cut before a single line end alone."""


def save(tokenizer: Tokenizer, directory: Path, **config: object) -> Path:
    """The tokenizer as a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>", **config}))
    return directory
