"""The training objective: named terms and their weighted sum.

B batch, C classes, D embedding, M random texts, K contexts; theta are the trained tensors, theta0 their values at the
start of the run, P the number of their scalars; z logits, p = softmax(z); s the logit scale.
"""

import copy
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from surefoot.clip import Classifier
from surefoot.files import UserError
from surefoot.layers import named

if TYPE_CHECKING:
    from surefoot.references import References


class Context:
    """What the terms of one step may ask for; each is computed only when a term asks, and then once.

    Args:
        classifier: the model in training.
        inputs: preprocessed images [B, 3, H, W], or unit-norm features [B, D] where the image tower is frozen.
        labels: [B].
        label_smoothing: part of the target that is spread evenly over all classes.
        trained: the tensors in training by name.
        references: the zero-shot model, the text tower, captions and the start.
        step: optimizer step, which fixes what is drawn at random.
        precision: of the towers; what follows them is in float32.
        first: place of the first image in the step's batch, of which these may be a part.
    """

    def __init__(
        self,
        classifier: Classifier,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        label_smoothing: float = 0,
        trained: dict[str, nn.Parameter] | None = None,
        references: "References | None" = None,
        step: int = 0,
        precision: str = "float32",
        first: int = 0,
    ) -> None:
        self.classifier, self.inputs, self.labels = classifier, inputs, labels
        self.label_smoothing, self.trained, self.step = label_smoothing, trained or {}, step
        self.references, self.precision, self.first = references, precision, first

    def towers(self) -> torch.autocast:
        """Within it the towers compute in the step's precision, with weights in float32."""
        return torch.autocast(self.inputs.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @cached_property
    def features(self) -> torch.Tensor:
        """Unit-norm image features [B, D]."""
        with self.towers():
            return self.inputs if self.inputs.ndim == 2 else self.classifier.encode(self.inputs)

    @cached_property
    def logits(self) -> torch.Tensor:
        """[B, C]."""
        return self.classifier.classify(self.features)

    @cached_property
    def zero_shot_features(self) -> torch.Tensor:
        """Unit-norm features [B, D] of the same images by the frozen zero-shot tower."""
        with torch.no_grad(), self.towers():
            return self.references.zero_shot.encode(self.inputs)

    @cached_property
    def zero_shot_logits(self) -> torch.Tensor:
        """Logits [B, C] of the same images by the frozen zero-shot model."""
        with torch.no_grad():
            return self.references.zero_shot.classify(self.zero_shot_features)

    @cached_property
    def caption_features(self) -> torch.Tensor:
        """Unit-norm features [B, D] of one caption per image."""
        with self.towers():
            return self.references.caption_features(self.labels, self.step, self.first)

    @cached_property
    def logit_scale(self) -> torch.Tensor:
        """s of image-text products: the classifier's own, or the text tower's where the head holds it in its rows."""
        own = self.classifier.logit_scale
        if own is None:
            own = (self.references.trained_text or self.references.text).clip.logit_scale
        return own.exp()

    @property
    def frozen_scale(self) -> float:
        """s of the pre-trained checkpoint."""
        return self.references.text.pretrained_scale

    @cached_property
    def scalars(self) -> int:
        """P."""
        return sum(tensor.numel() for tensor in self.trained.values())

    def within(self, part: str, entry: str) -> "Context":
        """The same step for the tensors of one part; P stays that of all, so the parts' norms sum to the whole.

        Raises UserError, with the name of the config entry, where the part has no tensor in training.
        """
        every = [name for name, _ in self.classifier.named_parameters()]
        chosen = named([*every, *self.trained], [part], entry)
        inner = copy.copy(self)
        inner.scalars = self.scalars
        inner.trained = {name: tensor for name, tensor in self.trained.items() if name in chosen}
        if not inner.trained:
            raise UserError(f"{entry}: no part {part!r} among what is trained")
        return inner


def cross_entropy(context: Context) -> torch.Tensor:
    """Mean cross-entropy; with smoothing e the target is (1 - e) one-hot + e / C (WiSE-FT, fine-tuning recipe)."""
    return F.cross_entropy(context.logits, context.labels, label_smoothing=context.label_smoothing)


def hinge(context: Context) -> torch.Tensor:
    """Mean over images of the sum over wrong classes of max(0, 1 + z_c - z_y) (AutoFT's code; summed, not averaged)."""
    right = context.logits.gather(1, context.labels[:, None])
    margins = (1 + context.logits - right).clamp(min=0)
    return margins.scatter(1, context.labels[:, None], 0).sum(1).mean()


def flyp(context: Context) -> torch.Tensor:
    """CLIP's loss on (image, caption) pairs: half the cross-entropy of s V T' and of its transpose (FLYP, equation 3).

    The target of an image is its own caption only, so another image of its class counts as a negative.
    """
    products = context.logit_scale * context.features @ context.caption_features.T
    target = torch.arange(len(products), device=products.device)
    return (F.cross_entropy(products, target) + F.cross_entropy(products.T, target)) / 2


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy [B] in nats."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def entropy(context: Context) -> torch.Tensor:
    """Mean entropy of p in nats (AutoFT)."""
    return _entropy(context.logits).mean()


def dcm(context: Context) -> torch.Tensor:
    """Entropy of the wrongly classified images, over all B (AutoFT's code; the indicator has no gradient).

    With a positive weight this lowers the entropy of the model's own errors, against what its name says.
    """
    wrong = context.logits.detach().argmax(-1) != context.labels
    return (_entropy(context.logits) * wrong).mean()


def _sum(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([tensor.sum() for tensor in tensors]).sum()


def _moved(context: Context) -> list[torch.Tensor]:
    return torch._foreach_sub(list(context.trained.values()), [context.references.start[n] for n in context.trained])


def l1zero(context: Context) -> torch.Tensor:
    """Sum of |theta| over P (AutoFT)."""
    return _sum(torch._foreach_abs(list(context.trained.values()))) / context.scalars


def l2zero(context: Context) -> torch.Tensor:
    """Sum of theta^2 over P (AutoFT)."""
    theta = list(context.trained.values())
    return _sum(torch._foreach_mul(theta, theta)) / context.scalars


def l1init(context: Context) -> torch.Tensor:
    """Sum of |theta - theta0| over P (AutoFT)."""
    return _sum(torch._foreach_abs(_moved(context))) / context.scalars


def l2init(context: Context) -> torch.Tensor:
    """Sum of (theta - theta0)^2 over P (AutoFT). L2-SP's penalty lambda / 2 * sum has weight lambda * P / 2 here."""
    moved = _moved(context)
    return _sum(torch._foreach_mul(moved, moved)) / context.scalars


def lipsum(context: Context) -> torch.Tensor:
    """Mean over images of sum_m (v_m - v0_m)^2 / (2 M), with v_m = s <g_m, f> for M random texts (Lipsum-FT, eq. 7).

    f, f0 (of the zero-shot tower) and g_m have unit norm and s is the pre-trained scale, as in the released code. The
    difference is taken before the product: v and v0 are large and nearly equal.
    """
    with context.towers():
        texts = context.references.random_texts(context.step)
    gap = context.frozen_scale * (context.features - context.zero_shot_features).float() @ texts.float().T
    return gap.square().mean() / 2


def kd(context: Context) -> torch.Tensor:
    """T^2 * KL(zero-shot at temperature T || student at T), batch mean (Hinton et al. 2015; T as in Mask-Fill)."""
    temperature = context.references.options.kd_temperature
    teacher = (context.zero_shot_logits / temperature).log_softmax(-1)
    student = (context.logits / temperature).log_softmax(-1)
    return temperature**2 * F.kl_div(student, teacher, log_target=True, reduction="batchmean")


def carft(context: Context) -> torch.Tensor:
    """KL(zero-shot || student) between the distributions over the K contexts of the task, batch mean (CAR-FT).

    p = softmax(s f C' / temperature); direction and temperature are not known from the paper.
    """
    scale = context.frozen_scale / context.references.options.carft_temperature
    contexts = context.references.contexts
    teacher = (scale * context.zero_shot_features @ contexts.T).log_softmax(-1)
    student = (scale * context.features @ contexts.T).log_softmax(-1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean")


TERMS: dict[str, Callable[[Context], torch.Tensor]] = {
    "ce": cross_entropy,
    "hinge": hinge,
    "flyp": flyp,
    "entropy": entropy,
    "dcm": dcm,
    "l1zero": l1zero,
    "l2zero": l2zero,
    "l1init": l1init,
    "l2init": l2init,
    "lipsum": lipsum,
    "kd": kd,
    "carft": carft,
}
# Terms that compare the images of a batch with each other, so a batch in parts would be another objective.
MIXES_IMAGES = {"flyp"}
FROM_START = {"l1init", "l2init"}


class Objective:
    """A weighted sum of terms; a norm may be of one part, as in l2init@head."""

    def __init__(self, weights: dict[str, float], entry: str = "objective") -> None:
        """Args: weights: 0 leaves a term out; entry: named in messages. Raises KeyError for an unknown term."""
        self.entry = entry
        split = [(key, *key.partition("@")[::2], weight) for key, weight in weights.items() if weight]
        self.terms = [(key, name, TERMS[name], part, weight) for key, name, part, weight in split]

    def asks_for(self, terms: set[str]) -> bool:
        """Whether any of these terms is in the sum."""
        return any(name in terms for _, name, *_ in self.terms)

    def __call__(self, context: Context) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise, and each term's own value (detached, not weighted)."""
        values = {
            key: term(context.within(part, f"{self.entry}.{key}") if part else context)
            for key, _, term, part, _ in self.terms
        }
        total = sum(weight * values[key] for key, *_, weight in self.terms)
        return total, {key: value.detach() for key, value in values.items()}
