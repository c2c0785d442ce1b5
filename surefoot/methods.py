"""What a method entry means."""

from surefoot import config
from surefoot.clip import Classifier

# Part of the classifier -> prefix of its tensors.
PARTS: dict[str, str] = {"image": "image.", "head": "head.", "logit_scale": "logit_scale"}


def set_trained(classifier: Classifier, parts: list[config.PartName]) -> dict:
    """Mark the tensors of some parts as trained, freeze all others, and return the trained ones by name.

    A frozen image tower is in evaluation mode, so that its buffers stay as they are.
    """
    trained = {}
    prefixes = tuple(PARTS[part] for part in parts)
    for name, parameter in classifier.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
        if parameter.requires_grad:
            trained[name] = parameter
    classifier.train()
    classifier.image.train("image" in parts)
    return trained
