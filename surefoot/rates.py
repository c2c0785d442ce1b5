"""How the learning rate is spread over the layers: factors per tensor, set anew at the start of an epoch.

Source of rgn, snr and gradual unfreezing: Lee et al. 2023 (Surgical Fine-Tuning), sections 4 and 5, and its code.
"""

import math
from collections.abc import Callable, Iterator

import torch

from surefoot.files import BadValues, UserError
from surefoot.layers import layers, named
from surefoot.method_entries import Training

Factors = dict[str, float]
Gradients = dict[str, torch.Tensor]
# What a rule may look at: the trained tensors, and gradients of the cross-entropy per batch or per image.
Probe = Callable[[bool], Iterator[Gradients]]


class Rates:
    """The factors of every trained tensor, epoch by epoch; 0 freezes a tensor for the epoch."""

    def __init__(
        self,
        training: Training,
        trained: dict[str, torch.nn.Parameter],
        epochs: int,
        entry: str,
        every: list[str] | None = None,
    ) -> None:
        """Args: trained: tensors by name; epochs: of the run; entry: of the config, for messages; every: names of all
        tensors of the classifier, from which the layers are counted (default: the trained ones)."""
        self.how, self.options, self.trained, self.epochs = training.rates, training.options, trained, epochs
        self.entry, self.every = entry, list(dict.fromkeys([*(every or []), *trained]))

    def at(self, epoch: int, probe: Probe) -> Factors:
        """Factors of an epoch. Raises UserError where a rule is not defined."""
        if isinstance(self.how, dict):
            found = self.per_part(self.how, "rates")
            if not any(found.values()):
                raise BadValues(f"{self.entry}.rates: every factor is 0, so nothing would be trained")
            return found
        return {
            "one": lambda: dict.fromkeys(self.trained, 1.0),
            "rgn": lambda: self._rgn(probe),
            "rgn-released": lambda: self._rgn_released(probe),
            "rgn-group": lambda: self._rgn_of_layers(probe),
            "snr": lambda: self._snr(probe),
            "snr-released": lambda: self._snr_released(probe),
            "gradual-first": lambda: self._gradual(epoch, list(self._layers())),
            "gradual-last": lambda: self._gradual(epoch, list(reversed(self._layers()))),
        }[self.how]()

    def _layers(self) -> dict[str, list[str]]:
        """Layer -> its trained tensors; layers without any are left out."""
        found = {layer: [n for n in names if n in self.trained] for layer, names in layers(self.every).items()}
        return {layer: names for layer, names in found.items() if names}

    def per_part(self, factors: dict[str, float], key: str) -> Factors:
        """Every trained tensor's factor: that of its part, or 1. Raises UserError for a part that is not trained."""
        found = dict.fromkeys(self.trained, 1.0)
        for part, factor in factors.items():
            chosen = named(self.every, [part], f"{self.entry}.{key}") & self.trained.keys()
            if not chosen:
                raise UserError(f"{self.entry}.{key}: no part {part!r} among what is trained")
            found |= dict.fromkeys(chosen, factor)
        return found

    def _ratios(self, gradients: Gradients, groups: dict[str, list[str]]) -> dict[str, float]:
        """||g|| / ||theta|| per group of tensors."""
        found = {}
        for group, names in groups.items():
            norm = math.sqrt(sum(float(self.trained[n].detach().square().sum()) for n in names))
            if norm == 0:
                raise UserError(
                    f"{self.entry}.rates: the relative gradient norm of {group} is not defined, its weights are all "
                    f"zero; use rgn-group, leave {group} out of train, or use a head without bias"
                )
            found[group] = math.sqrt(sum(float(gradients[n].square().sum()) for n in names)) / norm
        return found

    def _relative_norms(self, probe: Probe, groups: dict[str, list[str]]) -> dict[str, float]:
        """Mean over the probe batches of the ratios, divided by the largest group's (as released: no minimum)."""
        found = [self._ratios(gradients, groups) for gradients in probe(False)]
        means = {group: sum(ratios[group] for ratios in found) / len(found) for group in groups}
        largest = max(means.values())
        return {group: mean / largest if largest else 1.0 for group, mean in means.items()}

    def _rgn(self, probe: Probe) -> Factors:
        """Auto-RGN per tensor."""
        return self._relative_norms(probe, {name: [name] for name in self.trained})

    def _rgn_released(self, probe: Probe) -> Factors:
        """The same, but tensors with "bn" in their name have no ratio and are frozen, as in the released code.

        In a ResNet-50 that leaves the norms of the shortcuts (downsample.1), which are tuned.
        """
        named_bn = {name for name in self.trained if "bn" in name}
        if not (rest := self.trained.keys() - named_bn):
            raise UserError(
                f"{self.entry}.rates: rgn-released freezes all of train, whose tensors are named bn; use rgn"
            )
        found = self._relative_norms(probe, {name: [name] for name in self.trained if name in rest})
        return dict.fromkeys(named_bn, 0.0) | found

    def _rgn_of_layers(self, probe: Probe) -> Factors:
        """Auto-RGN with the tensors of a layer taken together; tensors outside the layers have factor 1."""
        by_layer = self._layers()
        if not by_layer:
            raise UserError(f"{self.entry}.rates: rgn-group needs a layer of the image tower or the head in train")
        found = self._relative_norms(probe, by_layer)
        inside = {name: found[layer] for layer, names in by_layer.items() for name in names}
        return dict.fromkeys(self.trained, 1.0) | inside

    def _snr(self, probe: Probe) -> Factors:
        """Auto-SNR as described: a tensor's signal-to-noise ratio over images, ||mean g||^2 / sum of the variance of g.

        Ratios are divided by the largest; below the threshold a tensor is frozen, above it the ratio is its factor.
        (Formula and threshold of the paper are not known.)
        """
        count, mean, square = 0, {}, {}
        for gradients in probe(True):
            count += 1
            for name, g in gradients.items():
                mean[name] = mean.get(name, 0) + g
                square[name] = square.get(name, 0) + g.square()
        ratios = {}
        for name in self.trained:
            signal = (mean[name] / count).square()
            noise = (square[name] / count - signal).clamp(min=0).sum()
            ratios[name] = float(signal.sum() / noise) if noise > 0 else math.inf if signal.any() else 0.0
        largest = max((r for r in ratios.values() if math.isfinite(r)), default=1.0) or 1.0
        relative = {name: min(1.0, ratio / largest) for name, ratio in ratios.items()}
        return {name: r if r >= self.options.snr_threshold else 0.0 for name, r in relative.items()}

    def _snr_released(self, probe: Probe) -> Factors:
        """The statistic of the released code (`eb-criterion`), which is not the paper's Auto-SNR.

        Mean of g^2 / (variance of g over its first dimension + 1e-8), averaged over the probe batches; below 0.95 a
        tensor is frozen, else it has factor 1. A first dimension of 1 has no variance (NaN), which counts as keep.
        """
        totals, count = dict.fromkeys(self.trained, 0.0), 0
        for gradients in probe(False):
            count += 1
            for name, g in gradients.items():
                if g.ndim == 0 or g.shape[0] == 1:
                    totals[name] = math.nan
                else:
                    totals[name] += float((g.square() / (g.var(0, keepdim=True) + 1e-8)).mean())
        return {name: 0.0 if total / count < 0.95 else 1.0 for name, total in totals.items()}

    def _gradual(self, epoch: int, order: list[str]) -> Factors:
        """Unfreezing at an even pace: of L layers the first ceil((epoch + 1) * L / epochs) are trained, in the end all.

        (The paper's schedule is not known.) Tensors outside the layers are trained from the start.
        """
        awake = math.ceil((epoch + 1) * len(order) / self.epochs)
        by_layer = self._layers()
        asleep = {name for layer in order[awake:] for name in by_layer[layer]}
        return {name: 0.0 if name in asleep else 1.0 for name in self.trained}
