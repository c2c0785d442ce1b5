"""Roles of image sets. The role is a type: selection code receives validation roles only."""

from typing import Literal

Role = Literal["train", "id_val", "ood_val", "id_test", "ood_test", "target_train", "target_val", "target_test"]
VALIDATION_ROLES = ("id_val", "ood_val")
