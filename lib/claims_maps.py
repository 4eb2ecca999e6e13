"""The paper's claims about maps, tested on a run's masking table and saved maps."""

from itertools import product

import numpy as np
import pandas as pd

from lib.inference import Finding, compare, verdict
from lib.map_measures import describe_maps, signed_extremes
from lib.paper import FINAL_MAPS, LAYER_TITLES, LAYERS, PHASE_TITLES, PHASES
from lib.statistics import ALPHA, level_tests, paired_tests

SALIENCY, GUIDED, CAM, GRAD_CAM = FINAL_MAPS
SHALLOW, DEEP = LAYERS[:3], LAYERS[3:]
RANDOM = ("random", "-")
TECHNIQUES = (*FINAL_MAPS, ("sam", LAYERS[0]))


def masking_claims(means: pd.DataFrame, *, rng: np.random.Generator) -> list[Finding]:
    """Test the claims on masking: C44, C50 to C54, C57 to C61.

    Parameters
    ----------
    means : DataFrame
        Relative probabilities as from `lib.statistics.slice_means`.
    rng : numpy.random.Generator
        For the intervals.

    Returns
    -------
    list of Finding
    """
    final = means[pd.MultiIndex.from_frame(means[["method", "layer"]]).isin(FINAL_MAPS)]
    levels = level_tests(final, 100.0, rng=rng)
    top, bottom = levels[levels["region"] == "top"], levels[levels["region"] == "bottom"]
    control = means[means["method"] == "random"]
    tests = _Pairs(pd.concat([means[means["region"] == "top"], control.assign(region="top")]), rng)
    sams = {layer: ("sam", layer) for layer in LAYERS}
    shallow_sams, deep_sams, others = [sams[x] for x in SHALLOW], [sams[x] for x in DEEP], (GUIDED, CAM, GRAD_CAM)
    chance = control.groupby("phase")["relative_probability"].mean()
    by_random = "; random 10 %: " + "; ".join(f"{PHASE_TITLES[p]} {chance[p]:.1f}" for p in PHASES if p in chance)
    same_layer = tests([(sams[x], ("grad_cam", x)) for x in SHALLOW], without=("conv4b", "noncon"))
    same_deep_layer = tests([(sams[x], ("grad_cam", x)) for x in DEEP], without=("conv5b", "noncon"))
    any_layer = _by_layer(tests(product(sams.values(), others)))
    finest, coarse = (SALIENCY, GUIDED), (CAM, GRAD_CAM)
    shallow_and_deep = tests(product(shallow_sams, deep_sams))
    shallow_and_others = tests(product(shallow_sams, others))
    found = [
        _masked(means),
        _superiority("C50", top, "top 10 % masked, weakest of four maps", reference=100.0, after=by_random),
        _null("C51", bottom, "bottom 10 % masked, four maps", reference=100.0),
        _superiority("C52", tests((SALIENCY, other) for other in others), "saliency minus the closest of the others"),
        _superiority("C53", tests(product(finest, coarse)), "saliency, guided backprop minus CAM, Grad-CAM, closest"),
        _some_phases("C54", tests([(CAM, GRAD_CAM)])),
        _superiority("C57", same_layer, "SAM minus Grad-CAM, closest of 2b, 3b, 4b", after=_by_layer(same_layer)),
        _null("C58", same_deep_layer, "SAM minus Grad-CAM, 5b (without noncon) and 6"),
        _superiority("C59", shallow_and_deep, "SAM at 2b, 3b, 4b minus SAM at 5b, 6, closest"),
        _superiority("C60", shallow_and_others, "SAM at 2b, 3b, 4b minus the closest of the others", after=any_layer),
        _superiority("C61", tests(product(TECHNIQUES, [RANDOM])), "weakest of five (SAM at 2b) minus random voxels"),
    ]
    return [finding._replace(n_patients=means["patient"].nunique()) for finding in found]


def map_claims(maps) -> list[Finding]:
    """Test what the saved maps of the representative slices say: C42, parts of C47, C48 and C55.

    Parameters
    ----------
    maps : lib.figures.Maps
        One slice a phase: enough to look at, too few to decide, so that no verdict on a difference exceeds "direction
        only". Maps of series without phases give no finding.
    """
    names = [phase for phase in PHASES if phase in maps.images]
    if not names:
        return []
    table = describe_maps(maps).set_index(["method", "layer", "name"]).sort_index()
    cam, grad_cam = (np.stack([maps.maps[(name, *which)] for name in names]).astype(float) for which in (CAM, GRAD_CAM))
    positive = np.maximum(cam, 0)
    scale = (grad_cam * positive).sum() / (positive**2).sum()
    deviation = np.abs(grad_cam - scale * positive).max() / grad_cam.max()
    extremes = np.mean([signed_extremes(_centre(maps.maps[(name, *SALIENCY)])) for name in names])
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
        _few("C47", mass[GUIDED] - mass[SALIENCY], f"one slice a phase: half of the map lies in {focus}"),
        Finding(
            "C48",
            f"one slice a phase: {100 * extremes:.0f} % of the voxels of highest |saliency| are signed extremes",
            "direction only" if extremes > 0.5 else "not reproduced",
            n_slices=len(names),
        ),
        _few("C55", outside["conv5b"] - shallow, f"one slice a phase: Grad-CAM's hottest tenth outside the body {air}"),
    ]


class _Pairs:
    """Paired tests, each pair computed once."""

    def __init__(self, means: pd.DataFrame, rng: np.random.Generator):
        self.means, self.rng, self.known = means, rng, {}

    def __call__(self, pairs, without: tuple[str, str] | None = None) -> pd.DataFrame:
        """Return the tests of pairs of maps; `without` leaves out one (layer, phase)."""
        chosen = []
        for pair in pairs:
            if pair not in self.known:
                self.known[pair] = paired_tests(self.means, [pair], rng=self.rng)
            chosen.append(self.known[pair])
        tests = pd.concat(chosen, ignore_index=True)
        if without:
            tests = tests[~((tests["layer"] == without[0]) & (tests["phase"] == without[1]))]
        return tests


def _worst(tests: pd.DataFrame) -> pd.DataFrame:
    """Return, by phase, the bounds that hold for all tests: the highest mean and bound, the lowest bound."""
    grouped = tests.groupby("phase")
    last = {name: grouped[name].agg(lambda values: values.max(skipna=False)) for name in ("mean", "high")}
    table = pd.DataFrame(last | {"low": grouped["low"].agg(lambda values: values.min(skipna=False))})
    return table.reindex([phase for phase in PHASES if phase in table.index])


def _superiority(id_: str, tests: pd.DataFrame, what: str, *, reference: float = 0.0, after: str = "") -> Finding:
    worst = _worst(tests)
    closest = tests.loc[tests["high"].fillna(tests["mean"]).groupby(tests["phase"]).idxmax()]
    judged = verdict(worst, "superiority", reference=reference)
    return _finding(id_, tests, f"{what}: {_by_phase(closest)}{after}", judged)


def _null(id_: str, tests: pd.DataFrame, what: str, *, reference: float = 0.0) -> Finding:
    worst = _worst(tests)
    text = "; ".join(f"{PHASE_TITLES[phase]} {_interval(row)}" for phase, row in worst.iterrows())
    return _finding(id_, tests, f"{what}, widest interval: {text}", verdict(worst, "null", reference=reference))


def _some_phases(id_: str, tests: pd.DataFrame) -> Finding:
    """Judge a difference that the paper claims for some phases and not for all (Bonferroni over the phases)."""
    significant = tests["patient_p"] * len(tests) < ALPHA
    clear = np.count_nonzero((tests["high"] < 0) & significant)
    slight = (tests["low"] < -1).any()  # a point or more may still be there
    if 0 < clear < len(tests):
        judged = "reproduced"
    elif clear:
        judged = "direction only"
    else:
        judged = "undecided" if slight else "not reproduced"
    return _finding(id_, tests, f"CAM minus Grad-CAM: {_by_phase(tests)}", judged)


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


def _by_phase(tests: pd.DataFrame) -> str:
    rows = tests.set_index("phase")
    rows = rows.loc[[phase for phase in PHASES if phase in rows.index]]
    return "; ".join(
        f"{PHASE_TITLES[p]} {row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]" for p, row in rows.iterrows()
    )


def _interval(row) -> str:
    return f"[{row.low:.1f}, {row.high:.1f}]" if np.isfinite(row.low) else "[one patient]"


def _by_layer(tests: pd.DataFrame) -> str:
    """Give the verdict of each layer of the first map."""
    judged = {layer: verdict(_worst(rows), "superiority") for layer, rows in tests.groupby("layer")}
    return "; by layer: " + ", ".join(f"{LAYER_TITLES[layer]} {judged[layer]}" for layer in LAYERS if layer in judged)


def _finding(id_: str, tests: pd.DataFrame, measured: str, judged: str) -> Finding:
    by_phase = tests.groupby("phase")
    value = by_phase["mean"].mean().mean()
    slices = int(by_phase["n_slices"].max().sum())
    return Finding(id_, measured, judged, value, tests["low"].min(), tests["high"].max(), slices)


def _few(id_: str, differences: pd.Series, measured: str) -> Finding:
    """Judge differences of one slice a phase that the paper says are negative: at most "direction only"."""
    rng = np.random.default_rng(0)
    found = compare(differences.to_numpy(), differences.index.to_numpy(), 0.0, rng=rng)
    low, high = found["patient_low"], found["patient_high"]
    judged = "direction only" if high < 0 else "not reproduced" if low > 0 else "undecided"
    return Finding(id_, measured, judged, found["mean"], low, high, len(differences), len(differences))


def _centre(values: np.ndarray) -> np.ndarray:
    return values[..., values.shape[-1] // 2] if values.ndim == 3 else values
