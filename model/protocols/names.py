"""Names of what is compared, for command lines: importing them costs nothing."""

from __future__ import annotations

SYSTEM_NAMES = ("mamp", "gl_transformer", "motion_codes", "masked_frames", "plain_jepa")
A4MER = ("untrained", "a4mer")
NETWORKS = (*A4MER, *(name for kind in SYSTEM_NAMES for name in (f"{kind}_untrained", kind)))
METHODS = ("simple", "poses", *NETWORKS)
PROTOCOLS = ("recognition", "fine-tuning", "transfer", "robustness", "segmentation", "prediction", "interpolation")
# of networks alone
OF_NETWORKS = ("fine-tuning", "transfer")
# what these tell are shares of what is right; the others tell errors
SHARES = ("recognition", "fine-tuning", "transfer", "robustness", "segmentation")
