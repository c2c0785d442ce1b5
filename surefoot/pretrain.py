"""Make the embedded CLIP from nothing: the CLIP loss on captioned emoji in all four styles.

P training pairs (emoji, style), B batch, L context length.
"""

import json
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save_file
from tqdm import tqdm

from surefoot.augment import augment
from surefoot.clip import CONFIG, MERGES, WEIGHTS, Tokenizer, load_tokenizer
from surefoot.config import Pretraining
from surefoot.files import UserError, atomic, write_json
from surefoot.records import versions
from surefoot.resume import Resumable
from surefoot.seeds import derive, numpy_stream, torch_stream
from surefoot.splits import Split
from surefoot.tasks.emoji_captions import PLAIN_WORDS, STYLE_WORDS, build_merges, contents, corpus
from surefoot.tasks.emoji_names import inventory, is_held_out


def write_architecture(folder: Path, architecture: Path) -> None:
    """Write the vocabulary and the open_clip config file of a model folder.

    The vocabulary's size in `architecture` is set to the one that the captions need.
    """
    with atomic(folder / MERGES) as partial:
        partial.write_bytes(build_merges(corpus(inventory())))
    config = json.loads(architecture.read_text(encoding="utf-8"))
    write_json(folder / CONFIG, config)
    config["model_cfg"]["text_cfg"]["vocab_size"] = load_tokenizer(folder).vocab_size
    write_json(folder / CONFIG, config)


RECORD = "pretrain.json"  # beside the weights: how they were made


class Captions:
    """All captions of all emoji, tokenised once."""

    def __init__(self, tokenizer: Tokenizer, how: Pretraining) -> None:
        self.shares = np.array([how.name_caption, how.class_caption, how.group_caption])
        self.style_share = how.style_caption
        self.said = [contents(emoji) for emoji in inventory()]
        texts, self.index = [], {}
        for number, said in enumerate(self.said):
            for style, phrases in {**STYLE_WORDS, "": PLAIN_WORDS}.items():
                for facts, content in said.items():
                    self.index[number, style, facts] = (len(texts), len(phrases))
                    texts += [phrase.format(content) for phrase in phrases]
        self.tokens = tokenizer(texts)

    def draw(self, batch: list[tuple[int, str]], stream: np.random.Generator) -> torch.Tensor:
        """Tokens [B, L] of one random caption per (emoji, style) pair."""
        chosen = []
        for (number, style), uniform in zip(batch, stream.random((len(batch), 5)), strict=True):
            yes = uniform[:3] < self.shares
            facts = tuple(fact for fact, said in zip(("name", "class", "group"), yes, strict=True) if said)
            if facts not in self.said[number]:
                facts = tuple(fact for fact in facts if fact != "class") or ("name",)
            first, count = self.index[number, style if uniform[3] < self.style_share else "", facts]
            chosen.append(first + int(uniform[4] * count))
        return self.tokens[chosen]


def training_pairs() -> tuple[list[tuple[int, str]], np.ndarray]:
    """The P (emoji, style) pairs that pre-training may see, and the probability [P] of each in a draw.

    A pair's weight falls with the square root of the size of its Unicode subgroup, so that small ones are seen enough.
    """
    emoji = inventory()
    pairs = [(n, style) for n, e in enumerate(emoji) for style in STYLE_WORDS if not is_held_out(e.concept, style)]
    sizes = Counter(emoji[n].subgroup for n, _ in pairs)
    weights = np.array([sizes[emoji[n].subgroup] ** -0.5 for n, _ in pairs])
    return pairs, weights / weights.sum()


def pretrain(splits: dict[str, Split], architecture: Path, folder: Path, how: Pretraining, progress: Resumable) -> None:
    """Train a CLIP and write its model folder, with the recipe, the last loss and the time in `pretrain.json`.

    Args:
        splits: style -> prepared split whose rows are the inventory in order.
        architecture: open_clip config file.
        folder: where config, vocabulary and weights go.
        how: recipe. Same recipe, same bytes on one kind of CPU, interrupted or not.
        progress: saved states.

    Raises UserError when the loss is not finite.
    """
    torch.manual_seed(how.seed)  # open_clip's constructors know no other generator
    write_architecture(folder, architecture)
    config = json.loads((folder / CONFIG).read_text())["model_cfg"]
    config["vision_cfg"]["patch_dropout"] = how.patch_dropout
    model = open_clip.CLIP(**config).train()
    captions = Captions(load_tokenizer(folder), how)
    pairs, probability = training_pairs()
    images = {style: torch.from_numpy(np.array(split.images)) for style, split in splits.items()}
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": how.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=how.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    start, losses, seconds, begin = 0, [], 0.0, time.perf_counter()
    if state := progress.load("state.pt"):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, losses, seconds = state["step"], state["losses"], state["seconds"]
    loss_function = ClipLoss()
    for step in tqdm(range(start, how.steps), initial=start, total=how.steps, desc="pretrain", mininterval=5):
        stream = numpy_stream(how.seed, "batch", step)
        batch = [pairs[i] for i in stream.choice(len(pairs), how.batch_size, replace=False, p=probability)]
        tokens = captions.draw(batch, numpy_stream(how.seed, "captions", step))
        x = torch.stack([images[s][n] for n, s in batch]).permute(0, 3, 1, 2).float() / 255
        x = augment(x, how.augmentation, torch_stream(how.seed, "changes", step))
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate * _schedule(step, how)
        torch.manual_seed(derive(how.seed, "patches", step))  # open_clip's patch dropout knows no other generator
        loss = loss_function(*model((x - MEAN) / STD, tokens)[:3])
        if not torch.isfinite(loss):
            raise UserError(f"pre-training: the loss is {loss.item()} at step {step}; lower pretraining.learning_rate")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        if (step + 1) % how.save_every == 0:
            progress.save(
                "state.pt",
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "losses": losses[-100:],
                    "seconds": seconds + time.perf_counter() - begin,
                },
            )
    with atomic(folder / WEIGHTS) as partial:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial)
    seconds += time.perf_counter() - begin
    write_json(
        folder / RECORD,
        {"recipe": how.model_dump(), "loss": float(np.mean(losses[-100:])), "seconds": seconds, "versions": versions()},
    )


# The pixel statistics of the architecture's preprocess_cfg: white is 1, black is -1.
MEAN, STD = 0.5, 0.5


def _schedule(step: int, how: Pretraining) -> float:
    """Part of the peak rate: a linear warm-up, then half a cosine to zero."""
    if step < how.warmup:
        return (step + 1) / how.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - how.warmup) / max(1, how.steps - how.warmup)))
