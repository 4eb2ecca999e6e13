"""Phases, layers, maps and controls as they are printed; whatever computes does not import this."""

from lib.paper import LAYERS, PHASES

PHASE_TITLES = dict(zip(PHASES, ("Noncon", "CM", "CM-neph", "Neph", "Pyelo"), strict=True))
LAYER_TITLES = dict(zip(LAYERS, ("2b", "3b", "4b", "5b", "6"), strict=True))
CONTROL_TITLES = {  # what is masked without a map of this network and slice, in the order of the figures
    "random": "Random, image",
    "random_body": "Random, body",
    "blocks": "Blocks",
    "other_patient": "Other patient",
    "disc": "Disc",
    "edges": "Edges",
    "brightness": "Brightness",
    "untrained": "Untrained network",
}
FILL_TITLES = {  # what overwrites the voxels
    "normal": "N(0, 1)",
    "uniform": "U[0, 1)",
    "range": "image's range",
    "zero": "zero",
    "shuffle": "shuffled",
    "blurred": "blurred",
}
METHOD_TITLES = {
    "saliency": "Saliency",
    "guided_backprop": "Guided backprop",
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "sam": "SAM",
    **CONTROL_TITLES,
}


VARIANT_TITLES = {  # of lib.maps.variants
    "sam_no_blur": "SAM without blur",
    "sam_no_inversion": "SAM without inversion",
    "sam_layer_maximum": "SAM, layer's maximum",
    "sam_mean_gradient": "SAM, mean gradient",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "saliency_positive": "Saliency above 0",
    "saliency_negative": "Saliency below 0",
}


def map_title(method: str, layer: str) -> str:
    """Return a map's title, with its layer where it has one: "SAM, 2b"."""
    title = (METHOD_TITLES | VARIANT_TITLES).get(method, method.replace("_", " "))
    return f"{title}, {LAYER_TITLES[layer]}" if layer in LAYER_TITLES else title


def contrast_title(part: str) -> str:
    """Return a contrast of two masks, as `lib.claims.networks.Part` writes it, with the titles of the maps."""
    return " − ".join(_mask_title(words.split()) for words in part.split(" - "))


def _mask_title(words: list[str]) -> str:
    if words == ["100", "%"]:
        return "100 %"
    method, layer, *region = words if len(words) > 1 else (*words, "-")  # a control has no layer
    return f"{map_title(method, layer)}{', lowest' if region == ['bottom'] else ''}"
