"""The paper's claims about maps, tested on the masking table and the saved maps of a run."""

from itertools import product

import numpy as np
import pandas as pd

from lib.claims.findings import Finding, verdict, words_by_phase, words_of_interval
from lib.maps.saved import describe_maps, signed_extremes
from lib.masking.controls import RANDOM, RANDOM_BODY
from lib.masking.statistics import ALPHA, level_tests, paired_tests
from lib.paper import FINAL_MAPS, LAYERS, PHASES
from lib.patient_statistics import compare
from lib.titles import LAYER_TITLES, METHOD_TITLES, PHASE_TITLES
from lib.voxels import centre_channel

SALIENCY, GUIDED, CAM, GRAD_CAM = FINAL_MAPS
SHALLOW, DEEP = LAYERS[:3], LAYERS[3:]
TECHNIQUES = (*FINAL_MAPS, *(("sam", layer) for layer in LAYERS))


def masking_claims(means: pd.DataFrame) -> list[Finding]:
    """Test the claims on masking: C44, C50 to C54, C57 to C61.

    Parameters
    ----------
    means : DataFrame
        Relative probabilities as from `lib.masking.statistics.slice_means`.

    Returns
    -------
    list of Finding
    """
    final = means[pd.MultiIndex.from_frame(means[["method", "layer"]]).isin(FINAL_MAPS)]
    levels = level_tests(final, 100.0)
    top, bottom = levels[levels["region"] == "top"], levels[levels["region"] == "bottom"]
    control = means[means["method"].isin([RANDOM[0], RANDOM_BODY[0]])]
    tests = _Pairs(pd.concat([means[means["region"] == "top"], control.assign(region="top")]))
    sams = {layer: ("sam", layer) for layer in LAYERS}
    shallow_sams, deep_sams, others = [sams[x] for x in SHALLOW], [sams[x] for x in DEEP], (GUIDED, CAM, GRAD_CAM)
    same_layer = tests([(sams[x], ("grad_cam", x)) for x in SHALLOW], without=("conv4b", "noncon"))
    same_deep_layer = tests([(sams[x], ("grad_cam", x)) for x in DEEP], without=("conv5b", "noncon"))
    excepted = tests([(sams["conv5b"], ("grad_cam", "conv5b"))]).query("phase == 'noncon'")
    any_layer = _by_layer(tests(product(sams.values(), others)))
    finest, coarse = (SALIENCY, GUIDED), (CAM, GRAD_CAM)
    shallow_and_deep = tests(product(shallow_sams, deep_sams))
    shallow_and_others = tests(product(shallow_sams, others))
    found = [
        _masked(means),
        _superiority("C50", top, "top 10 % masked, weakest of four maps", reference=100.0, after=_chance(control)),
        _null("C51", bottom, "bottom 10 % masked, four maps", reference=100.0),
        _superiority("C52", tests((SALIENCY, other) for other in others), "saliency minus the closest of the others"),
        _superiority("C53", tests(product(finest, coarse)), "saliency, guided backprop minus CAM, Grad-CAM, closest"),
        _some_phases("C54", tests([(CAM, GRAD_CAM)])),
        _superiority("C57", same_layer, "SAM minus Grad-CAM, closest of 2b, 3b, 4b", after=_by_layer(same_layer)),
        _null("C58", same_deep_layer, "SAM minus Grad-CAM, 5b (without noncon) and 6", after=_exception(excepted)),
        _superiority("C59", shallow_and_deep, "SAM at 2b, 3b, 4b minus SAM at 5b, 6, closest"),
        _superiority("C60", shallow_and_others, "SAM at 2b, 3b, 4b minus the closest of the others", after=any_layer),
        _against_chance("C61", tests, control),
    ]
    return [finding._replace(n_patients=means["patient"].nunique()) for finding in found]


def map_claims(maps) -> list[Finding]:
    """Test claims on the saved maps of the representative slices: C42, and parts of C47, C48 and C55.

    Parameters
    ----------
    maps : lib.maps.saved.Maps
        One slice per phase. These are too few to decide, so that the verdict on a difference is "direction only" at
        most. Maps of series without phases give no finding.

    Notes
    -----
    C48 is not judged here, since it needs the true tissues: in any map whose signs are balanced, the highest absolute
    value is an extreme of the signed map.
    """
    names = [phase for phase in PHASES if phase in maps.images]
    if not names:
        return []
    table = describe_maps(maps).set_index(["method", "layer", "name"]).sort_index()
    cam, grad_cam = (np.stack([maps.maps[(name, *which)] for name in names]).astype(float) for which in (CAM, GRAD_CAM))
    positive = np.maximum(cam, 0)
    scale = (grad_cam * positive).sum() / (positive**2).sum()
    deviation = np.abs(grad_cam - scale * positive).max() / grad_cam.max()
    extremes = np.mean([signed_extremes(centre_channel(maps.maps[(name, *SALIENCY)])) for name in names])
    mass = {which: table.loc[which, "half_mass"][names] for which in (SALIENCY, GUIDED)}
    outside = {layer: table.loc[("grad_cam", layer), "outside_body"][names] for layer in LAYERS}
    shallow = (outside["conv2b"] + outside["conv3b"]) / 2
    focus = f"{100 * mass[GUIDED].mean():.1f} % of guided backprop, {100 * mass[SALIENCY].mean():.1f} % of saliency"
    air = f"{100 * shallow.mean():.0f} % at 2b and 3b, {100 * outside['conv5b'].mean():.0f} % at 5b"
    return [
        Finding(
            "C42",
            f"Grad-CAM deviates from {scale:.4g} ReLU(CAM) by at most {deviation:.1e} of its maximum",
            "reproduced" if deviation < 1e-3 else "not reproduced",
            n_slices=len(names),
        ),
        _few("C47", mass[GUIDED] - mass[SALIENCY], f"one slice per phase: half of the map lies in {focus}"),
        Finding(
            "C48",
            f"one slice per phase: {100 * extremes:.0f} % of the voxels of highest |saliency| are signed extremes",
            "not tested",
            n_slices=len(names),
        ),
        _few(
            "C55", outside["conv5b"] - shallow, f"one slice per phase: highest tenth of Grad-CAM outside the body {air}"
        ),
    ]


class _Pairs:
    """Paired tests; each pair is computed only once."""

    def __init__(self, means: pd.DataFrame):
        self.means, self.known = means, {}

    def __call__(self, pairs, without: tuple[str, str] | None = None) -> pd.DataFrame:
        """Return the tests of pairs of maps; `without` excludes one (layer, phase)."""
        chosen = []
        for pair in pairs:
            if pair not in self.known:
                self.known[pair] = paired_tests(self.means, [pair])
            chosen.append(self.known[pair])
        tests = pd.concat(chosen, ignore_index=True)
        if without:
            tests = tests[~((tests["layer"] == without[0]) & (tests["phase"] == without[1]))]
        return tests


def _worst(tests: pd.DataFrame) -> pd.DataFrame:
    """Return by phase the bounds that hold for all tests: the highest mean and upper bound, the lowest lower bound."""
    grouped = tests.groupby("phase")
    last = {name: grouped[name].agg(lambda values: values.max(skipna=False)) for name in ("mean", "high")}
    table = pd.DataFrame(last | {"low": grouped["low"].agg(lambda values: values.min(skipna=False))})
    return table.reindex([phase for phase in PHASES if phase in table.index])


def _superiority(id_: str, tests: pd.DataFrame, what: str, *, reference: float = 0.0, after: str = "") -> Finding:
    worst = _worst(tests)
    closest = tests.loc[tests["high"].fillna(tests["mean"]).groupby(tests["phase"]).idxmax()]
    judged = verdict(worst, "superiority", reference=reference)
    return _finding(id_, tests, f"{what}: {words_by_phase(closest)}{after}", judged)


def _null(id_: str, tests: pd.DataFrame, what: str, *, reference: float = 0.0, after: str = "") -> Finding:
    worst = _worst(tests)
    text = "; ".join(f"{PHASE_TITLES[phase]} {words_of_interval(row)}" for phase, row in worst.iterrows())
    return _finding(id_, tests, f"{what}, widest interval: {text}{after}", verdict(worst, "null", reference=reference))


def _some_phases(id_: str, tests: pd.DataFrame) -> Finding:
    """Judge a difference that the paper claims for some phases but not for all (Bonferroni over the phases)."""
    significant = tests["patient_p"] * len(tests) < ALPHA
    clear = np.count_nonzero((tests["high"] < 0) & significant)
    slight = (tests["low"] < -1).any()  # a point or more may still be there
    if 0 < clear < len(tests):
        judged = "reproduced"
    elif clear:
        judged = "direction only"
    else:
        judged = "undecided" if slight else "not reproduced"
    return _finding(id_, tests, f"CAM minus Grad-CAM: {words_by_phase(tests)}", judged)


def _against_chance(id_: str, tests: _Pairs, control: pd.DataFrame) -> Finding:
    """Judge every technique against as many random voxels of the body, or of the image if these were not masked."""
    both = RANDOM_BODY[0] in set(control["method"])
    any_voxels = tests(product(TECHNIQUES, [RANDOM]))
    against = tests(product(TECHNIQUES, [RANDOM_BODY])) if both else any_voxels
    judged = {}
    for which, rows in against.groupby(["method", "layer"], sort=False):
        name = METHOD_TITLES[which[0]] + (f" {LAYER_TITLES[which[1]]}" if which[0] == "sam" else "")
        judged.setdefault(verdict(_worst(rows), "superiority"), []).append(name)
    after = "".join(f"; {label}: {', '.join(names)}" for label, names in judged.items())
    if both:
        after += f"; against random voxels anywhere, all nine: {verdict(_worst(any_voxels), 'superiority')}"
    what = "weakest of nine maps (SAM at five layers) minus random voxels" + " of the body" * both
    return _superiority(id_, against, what, after=after)


def _chance(control: pd.DataFrame) -> str:
    """Report the relative probability after masking as many random voxels."""
    text = ""
    for which, what in ((RANDOM, "random 10 %"), (RANDOM_BODY, "all in the body")):
        level = control[control["method"] == which[0]].groupby("phase")["relative_probability"].mean()
        if len(level):
            by_phase = ", ".join(f"{PHASE_TITLES[phase]} {level[phase]:.0f}" for phase in PHASES if phase in level)
            text += f"; {what}: {by_phase}"
    return text


def _exception(tests: pd.DataFrame) -> str:
    """Report the difference at 5b in the unenhanced phase, which the paper excepts and which is not judged."""
    return f"; where the paper has a difference, at 5b, {words_by_phase(tests)}" if len(tests) else ""


def _masked(means: pd.DataFrame) -> Finding:
    counted = means.drop_duplicates(["series", "slice"]).groupby("phase").size().reindex(PHASES, fill_value=0)
    text = ", ".join(f"{PHASE_TITLES[phase]} {n}" for phase, n in counted.items())
    patients = means["patient"].nunique()
    return Finding(
        "C44",
        f"slices masked, of the phase that the network predicts: {text}",
        "method",
        n_slices=int(counted.sum()),
        n_patients=patients,
    )


def _by_layer(tests: pd.DataFrame) -> str:
    """Report a verdict for each layer of the first map."""
    judged = {layer: verdict(_worst(rows), "superiority") for layer, rows in tests.groupby("layer")}
    return "; by layer: " + ", ".join(f"{LAYER_TITLES[layer]} {judged[layer]}" for layer in LAYERS if layer in judged)


def _finding(id_: str, tests: pd.DataFrame, measured: str, judged: str) -> Finding:
    by_phase = tests.groupby("phase")
    value = by_phase["mean"].mean().mean()
    slices = int(by_phase["n_slices"].max().sum())
    return Finding(id_, measured, judged, value, tests["low"].min(), tests["high"].max(), slices)


def _few(id_: str, differences: pd.Series, measured: str) -> Finding:
    """Judge one slice per phase, where the paper claims a negative difference; "direction only" at most."""
    rng = np.random.default_rng(0)
    found = compare(differences.to_numpy(), differences.index.to_numpy(), 0.0, rng=rng)
    low, high = found["patient_low"], found["patient_high"]
    judged = "direction only" if high < 0 else "not reproduced" if low > 0 else "undecided"
    return Finding(id_, measured, judged, found["mean"], low, high, len(differences), len(differences))
