"""What some terms compare with: the zero-shot model, the text tower, captions, the start. Each is made when asked for.

B batch, C classes, T templates, K contexts, L tokens, D embedding.
"""

from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F

from surefoot.clip import Classifier, State, load_clip, zero_shot_classifier
from surefoot.method_entries import Options
from surefoot.seeds import torch_stream
from surefoot.tasks import Task
from surefoot.text import TextTower, class_tokens


class References:
    """Frozen companions of one training run, on its device; a run whose terms need none loads none."""

    def __init__(
        self, folder: Path, head: State, task: Task, options: Options, seed: int, device: torch.device
    ) -> None:
        self.folder, self.head, self.task, self.options, self.seed, self.device = (
            folder,
            head,
            task,
            options,
            seed,
            device,
        )
        self.start: dict[str, torch.Tensor] = {}
        self.trained_text: TextTower | None = None

    @cached_property
    def zero_shot(self) -> Classifier:
        """The frozen zero-shot classifier."""
        return zero_shot_classifier(self.folder, self.head).requires_grad_(False).to(self.device)

    @cached_property
    def text(self) -> TextTower:
        """The frozen text tower."""
        return TextTower(load_clip(self.folder)).requires_grad_(False).to(self.device).eval()

    def train_text(self) -> TextTower:
        """A text tower of its own for a run that trains it; from now on captions go through it, nothing else does.

        For the next run of the same companions it is set back to its first weights.
        """
        if self.trained_text is None:
            self.trained_text = TextTower(load_clip(self.folder)).to(self.device).eval()
            self._first_text = {key: tensor.clone() for key, tensor in self.trained_text.state_dict().items()}
        self.trained_text.load_state_dict(self._first_text)
        return self.trained_text

    @cached_property
    def tokens(self) -> torch.Tensor:
        """Token ids [C, T, L] of every class in every template."""
        return class_tokens(self.folder, self.task.prompt_names, self.task.templates).to(self.device)

    @cached_property
    def contexts(self) -> torch.Tensor:
        """Context rows [K, D] of CAR-FT: per context the mean over classes of the text features, normalised again."""
        with torch.no_grad():
            prompts = self.task.contexts or self.task.templates
            tokens = class_tokens(self.folder, self.task.prompt_names, prompts).to(self.device)
            return F.normalize(torch.stack([self.text.encode(texts) for texts in tokens]).mean(0), dim=-1)

    def caption_features(self, labels: torch.Tensor, step: int, first: int = 0) -> torch.Tensor:
        """Unit-norm features [B, D] of one caption per image."""
        return (self.trained_text or self.text).encode(self.caption_tokens(labels, step, first))

    def caption_tokens(self, labels: torch.Tensor, step: int, first: int = 0) -> torch.Tensor:
        """Tokens [B, L] of one caption per image: its class name in a template drawn for this step (FLYP).

        Of images from the place `first` of the step's batch on, these are the captions that the whole batch gives them.
        """
        stream = torch_stream(self.seed, "captions", step)
        template = torch.randint(0, self.tokens.shape[1], (first + len(labels),), generator=stream)[first:]
        return self.tokens[labels, template.to(self.device)]

    @torch.no_grad()
    def random_texts(self, step: int) -> torch.Tensor:
        """Features [M, D] of M random texts, fresh for every step and shared by the batch (Lipsum-FT)."""
        stream = torch_stream(self.seed, "random texts", step)
        tokens = self.text.random_tokens(self.options.lipsum_texts, self.options.lipsum_length, stream)
        return self.text.encode(tokens.to(self.device))

    def remember_start(self, trained: dict[str, torch.nn.Parameter]) -> None:
        """Keep a copy of the trained tensors as they are now; or the live ones (options.distances)."""
        live = self.options.distances == "live"
        self.start = {name: tensor.detach() if live else tensor.detach().clone() for name, tensor in trained.items()}
