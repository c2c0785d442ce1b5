"""TPGM: trainable projection of fine-tuned weights towards the start (Tian et al. 2023; the released code).

Each tensor is kept within a learned L2 radius g of its value in the zero-shot model:
theta' = theta0 + min(1, g / |theta - theta0|) * (theta - theta0).
"""

import torch
import torch.nn.functional as F
from torch.func import functional_call
from tqdm import tqdm

from surefoot.clip import Classifier, Preprocess, State
from surefoot.data import Examples
from surefoot.method_entries import Tpgm

START_SHARE = 0.5  # of the smallest distance: where all radii start


def project(theta0: State, theta1: State, radii: dict[str, torch.Tensor]) -> State:
    """Tensors of theta1 that have a radius, projected; the others as they are."""
    projected = dict(theta1)
    for key, radius in radii.items():
        moved = theta1[key] - theta0[key]
        projected[key] = theta0[key] + (radius / moved.norm()).clamp(0, 1) * moved
    return projected


def fit_radii(
    classifier: Classifier,
    theta0: State,
    validation: Examples,
    preprocess: Preprocess,
    how: Tpgm,
    seed: int,
    name: str,
) -> dict[str, float]:
    """Project a fine-tuned classifier in place; returns the radius of every tensor that had moved.

    The radii are trained by Adam on the cross-entropy of validation images. (The released ImageNet code trains them on
    its test set.)
    """
    device = next(classifier.parameters()).device
    theta1 = {key: tensor.detach().clone() for key, tensor in classifier.state_dict().items()}
    moved = {key: (theta1[key] - theta0[key]).norm() for key in dict(classifier.named_parameters())}
    moved = {key: norm for key, norm in moved.items() if norm > 0}
    if not moved:
        return {}
    smallest = START_SHARE * min(moved.values())
    radii = {key: smallest.clone().requires_grad_(True) for key in moved}
    optimizer = torch.optim.Adam(radii.values(), lr=how.learning_rate)
    labels = torch.from_numpy(validation.labels).to(device)
    classifier.requires_grad_(False).eval()
    step, epoch = 0, 0
    with tqdm(total=how.steps, desc=f"{name} TPGM") as bar:
        while step < how.steps:
            for indices in validation.shuffled(how.batch_size, seed, epoch):
                if step == how.steps:
                    break
                x = preprocess(validation.images(indices).to(device))
                logits = functional_call(classifier, project(theta0, theta1, radii), (x,))
                optimizer.zero_grad()
                F.cross_entropy(logits, labels[indices]).backward()
                optimizer.step()
                with torch.no_grad():
                    for radius in radii.values():
                        radius.clamp_(min=0)
                step += 1
                bar.update()
            epoch += 1
    with torch.no_grad():
        classifier.load_state_dict(project(theta0, theta1, radii))
    return {key: float(radius.detach()) for key, radius in radii.items()}
