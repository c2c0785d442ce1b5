"""What a method entry means."""

from surefoot import config
from surefoot.clip import Classifier
from surefoot.files import UserError

# Part of the classifier -> prefix of its tensors.
PARTS: dict[str, str] = {"image": "image.", "head": "head.", "logit_scale": "logit_scale"}


def set_trained(classifier: Classifier, parts: list[config.PartName]) -> dict:
    """Mark the tensors of some parts as trained, freeze all others, and return the trained ones by name.

    A frozen image tower is in evaluation mode, so that its buffers stay as they are. Raises UserError when the model
    has no tensor of these parts.
    """
    trained = {}
    prefixes = tuple(PARTS[part] for part in parts)
    for name, parameter in classifier.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
        if parameter.requires_grad:
            trained[name] = parameter
    if not trained:
        raise UserError(f"train: {', '.join(parts)} has no tensor in this model; is the logit scale part of the head?")
    classifier.train()
    classifier.image.train("image" in parts)
    return trained
