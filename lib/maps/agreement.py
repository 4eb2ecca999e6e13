"""How alike the maps are that several networks, or none, give of the same slices, with patients as the unit."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from lib.attribution import METHODS
from lib.files import resolve
from lib.maps.ranked import MEASURES, RankedMap
from lib.paper import LAYERS, PHASES
from lib.patient_statistics import RESAMPLES, balanced_mean
from lib.resampling import resample
from lib.voxels import centre_channel

SLICE = ["patient", "series", "slice", "phase"]
MAP = ["method", "layer", "ranking"]
SIGNED = ("saliency", "guided_backprop", "cam", "hires_cam")  # maps whose values may be negative
CONTENT_FREE = ("disc", "edges", "brightness")

Maps = Mapping[tuple[str, str], np.ndarray]
Source = Callable[[np.ndarray, np.ndarray, np.ndarray], Maps]


def rank_maps(
    maps: Maps, body: np.ndarray | None, *, grids: Mapping[tuple[str, str], int] | None = None, fraction: float = 0.1
) -> dict[tuple[str, str, str], list[RankedMap]]:
    """Rank the maps of a batch, by absolute value, and by the signed value where a map has a sign.

    Parameters
    ----------
    maps : dict of (method, layer) to float array (n, H', W')
        As an `Attributor` returns them. A single map of the layer "-" knows no layers: it is brought to every grid of
        `grids` by area means.
    body : bool array (n, H, W), optional
        Only cells count of which at least half lies in the body; None takes all cells.
    grids : dict of (method, layer) to int
        Cells along one side of the maps to compare with; needed for a map of the layer "-" only.
    fraction : float
        Share of the cells that counts as highest.

    Returns
    -------
    dict of (method, layer, ranking) to list of RankedMap
        Ranking is "absolute" or "signed"; one RankedMap per image.
    """
    if all(layer == "-" for _, layer in maps):
        ((_, values),) = maps.items()
        sizes = {cells: np.stack([resample(one, cells) for one in values]) for cells in set((grids or {}).values())}
        ranked = {cells: _ranked(stack, body, fraction) for cells, stack in sizes.items()}
        return {(*name, "absolute"): ranked[cells] for name, cells in (grids or {}).items()}
    found = {}
    for (method, layer), stack in maps.items():
        values = np.stack([centre_channel(one) for one in stack])
        found[method, layer, "absolute"] = _ranked(np.abs(values), body, fraction)
        if method in SIGNED:
            found[method, layer, "signed"] = _ranked(values, body, fraction)
    return found


def _ranked(values: np.ndarray, body: np.ndarray | None, fraction: float) -> list[RankedMap]:
    cells = values.shape[1]
    masks = [None] * len(values) if body is None else [resample(one.astype("float32"), cells) >= 0.5 for one in body]
    return [RankedMap(one, mask, fraction) for one, mask in zip(values, masks, strict=True)]


def measure_agreement(
    batches: Iterable[tuple[pd.DataFrame, np.ndarray, np.ndarray]],
    sources: Mapping[tuple[str, int], Source],
    *,
    reference: tuple[str, int] | None = None,
    within: str = "body",
    fraction: float = 0.1,
) -> Iterator[pd.DataFrame]:
    """Compare the maps that several sources give of the same slices, batch by batch.

    Parameters
    ----------
    batches : iterable of (rows, images, body)
        As from `Cohort.batches`; `rows` has the columns patient, series, slice and phase, and the maps explain the
        phase.
    sources : dict of (name, number) to callable
        `(images, body, classes) -> maps`, such as an `Attributor` (see :func:`maps_of`), a network whose weights are
        random (`lib.maps.randomisation`), or a map without content (:func:`without_content`).
    reference : (name, number), optional
        The source that all others are compared with; None compares every pair.
    within : {"body", "image"}
        The cells that count.
    fraction : float
        Share of the cells that counts as highest.

    Yields
    ------
    DataFrame
        One row per slice, map, ranking and pair: patient, series, slice, phase, `method`, `layer`, `ranking`
        ("absolute" or "signed"), `first`, `first_number`, `second`, `second_number`, the three measures of
        `lib.maps.ranked.Agreement`, and `blank`, whether the second map has one value only.
    """
    if within not in ("body", "image"):
        raise ValueError(f"within={within!r} is not known: choose body or image.")
    first = reference or next(iter(sources))
    for rows, images, body in batches:
        classes = rows["phase"].map(PHASES.index).to_numpy()
        counted = body if within == "body" else None
        computed = sources[first](images, body, classes)
        grids = {name: values.shape[1] for name, values in computed.items()}
        ranked = {first: rank_maps(computed, counted, fraction=fraction)}
        parts = []
        for name, source in sources.items():
            if name == first:
                continue
            new = rank_maps(source(images, body, classes), counted, grids=grids, fraction=fraction)
            if reference is None:
                ranked[name] = new
            else:
                parts.append(_compare(rows, first, ranked[first], name, new))
        if reference is None:
            parts += [_compare(rows, one, ranked[one], other, ranked[other]) for one, other in combinations(ranked, 2)]
        yield pd.concat(parts, ignore_index=True)


def _compare(rows: pd.DataFrame, first: tuple, one: Mapping, second: tuple, other: Mapping) -> pd.DataFrame:
    found, slices = [], list(rows[SLICE].itertuples(index=False, name=None))
    for name in one.keys() & other.keys():
        for key, a, b in zip(slices, one[name], other[name], strict=True):
            found.append((*key, *name, *first, *second, *a.agreement(b), b.blank))
    names = ["first", "first_number", "second", "second_number", *MEASURES, "blank"]
    return pd.DataFrame(found, columns=[*SLICE, *MAP, *names]).sort_values([*SLICE, *MAP], ignore_index=True)


def maps_of(attributor: Callable, methods: Sequence[str]) -> Source:
    """Return an `Attributor` as a source of maps."""
    return lambda images, body, classes: attributor(images, classes, methods)


def without_content(image_maps: Callable[[np.ndarray, np.ndarray], Maps]) -> dict[tuple[str, int], Source]:
    """Return maps that know no network as sources: a disc about the body's centroid, the edges, the brightness.

    `image_maps` is `lib.masking.controls.image_maps`, or another function of images and body.
    """

    def source(name: str) -> Source:
        return lambda images, body, classes: {(name, "-"): image_maps(images, body)[name, "-"]}

    return {(name, 0): source(name) for name in CONTENT_FREE}


def summarise_agreement(
    table: pd.DataFrame, keys: Sequence[str], *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Average the agreement over the slices of a patient, over patients, and over the phases.

    Parameters
    ----------
    table : DataFrame
        As from :func:`measure_agreement`.
    keys : sequence of str
        What is kept apart besides the map and its ranking, such as "second".
    rng, resamples
        Of the bootstrap, in which patients are resampled.

    Returns
    -------
    DataFrame
        `method`, `layer`, `ranking`, the keys, `phase` (a phase, or "mean", in which every phase weighs the same),
        `measure`, `mean`, `low`, `high` (95 % interval), `blank` (share of blank second maps), `n_slices`,
        `n_patients`.
    """
    rows, groups = [], dict(iter(table.groupby([*MAP, *keys], sort=False)))
    for key in sorted(groups, key=map_order):
        group = groups[key]
        phases = [phase for phase in PHASES if phase in set(group["phase"])]
        for phase in [*phases, "mean"]:
            chosen = group if phase == "mean" else group[group["phase"] == phase]
            counts = len(chosen[["series", "slice"]].drop_duplicates()), chosen["patient"].nunique()
            means = balanced_mean(
                chosen[list(MEASURES)].to_numpy(), chosen["patient"], chosen["phase"], rng=rng, resamples=resamples
            )
            for measure, found in zip(MEASURES, means, strict=True):
                rows.append((*key, phase, measure, *found, chosen["blank"].mean(), *counts))
    names = ["phase", "measure", "mean", "low", "high", "blank", "n_slices", "n_patients"]
    return pd.DataFrame(rows, columns=[*MAP, *keys, *names])


def map_order(name: Sequence) -> tuple[int, int]:
    """Return where a map (method, layer, ...) comes in tables and figures: by method, then by layer, controls last."""
    methods, layers = (*METHODS, "disc"), ("input", *LAYERS)
    method = methods.index(name[0]) if name[0] in methods else len(methods)
    return method, layers.index(name[1]) if name[1] in layers else len(layers)


def equal_but_for_the_seed(network: str | Path, folder: str | Path) -> list[Path]:
    """Return the trained networks of a folder that differ from a network in nothing but their seed, and this one.

    Parameters
    ----------
    network : path
        Folder of a network, as 02_train_network writes it: `model.keras`, `standardisation.json`, `provenance.json`.
    folder : path
        Holds one folder per network.

    Returns
    -------
    list of path
        Sorted by name. Networks of another recipe, of another cohort, or with the same seed are left out.
    """

    def facts(path: Path) -> tuple:
        record = json.loads((path / "provenance.json").read_text())
        recipe = {name: value for name, value in record["parameters"].items() if name not in ("seed", "computed_in")}
        return recipe, record["inputs"], json.loads((path / "standardisation.json").read_text())

    def seed(path: Path) -> int:
        return json.loads((path / "provenance.json").read_text())["parameters"]["seed"]

    network = resolve(network)
    if not (network / "provenance.json").exists():
        return [network]
    mine, found = facts(network), {seed(network): network}
    for path in sorted(resolve(folder).glob("*/provenance.json")):
        other = path.parent
        if (other / "model.keras").exists() and seed(other) not in found and facts(other) == mine:
            found[seed(other)] = other
    return sorted(found.values())
