"""Phases, layers and maps as they are printed in figures and tables; whatever computes does not import this."""

from lib.paper import LAYERS, PHASES

PHASE_TITLES = dict(zip(PHASES, ("Noncon", "CM", "CM-neph", "Neph", "Pyelo"), strict=True))
LAYER_TITLES = dict(zip(LAYERS, ("2b", "3b", "4b", "5b", "6"), strict=True))
METHOD_TITLES = {
    "saliency": "Saliency",
    "guided_backprop": "Guided backprop",
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "sam": "SAM",
    "random": "Random voxels",
}
