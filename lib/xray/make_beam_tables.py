"""Write the two tables that `lib.xray.beam` reads; needs SpekPy and XrayDB (`pip install spekpy xraydb`), once.

    python -m lib.xray.make_beam_tables

Spectra: SpekPy 2.5 (Poludniowski et al., Med Phys 2021;48:3630), tungsten anode, in bins of equal share of the signal
that an energy-integrating detector would give. Attenuation: XrayDB 4.5 (Elam, Ravel, Sieber 2002; Chantler), mean over
each bin, weighted by the spectrum. Compositions: ICRU-44 (tissues), stoichiometry (the rest), Stroud 1998 and others
for teeth, see `COMPOSITIONS`.
"""

import numpy as np
import pandas as pd

from lib.files import ROOT, atomic_path

BINS = 12
SETTINGS = {  # kV, anode angle (degrees), filters (material, mm)
    "chest": (120, 12, [("Al", 3.0), ("Cu", 0.1), ("Air", 1800)]),
    "dental": (65, 16, [("Al", 2.0), ("Air", 300)]),
}
HYDROXYAPATITE = {"Ca": 0.3989, "P": 0.1850, "O": 0.4141, "H": 0.0020}
WATER = {"H": 0.1119, "O": 0.8881}


def _mixture(mineral: float, organic: float, water: float, density: float) -> tuple[float, dict[str, float]]:
    """Return (density, mass shares) of a hard tissue from mass shares of mineral, collagen and water."""
    collagen = {"H": 0.065, "C": 0.50, "N": 0.18, "O": 0.255}
    shares: dict[str, float] = {}
    for part, share in ((HYDROXYAPATITE, mineral), (collagen, organic), (WATER, water)):
        for element, mass in part.items():
            shares[element] = shares.get(element, 0.0) + share * mass
    return density, shares


COMPOSITIONS = {  # density (g/cm3), mass shares of the elements
    "water": (1.0, WATER),
    "hydroxyapatite": (3.16, HYDROXYAPATITE),
    "barium_sulphate": (4.50, {"Ba": 0.5884, "S": 0.1374, "O": 0.2742}),
    "pvc": (1.30, {"H": 0.0484, "C": 0.3844, "Cl": 0.5673}),
    "copper": (8.96, {"Cu": 1.0}),
    "amalgam": (11.0, {"Hg": 0.47, "Ag": 0.31, "Sn": 0.14, "Cu": 0.08}),
    "gutta_percha": (2.2, {"Zn": 0.50, "O": 0.125, "Ba": 0.07, "S": 0.016, "C": 0.255, "H": 0.034}),
    "muscle": (1.05, {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.710, "Na": 0.001, "P": 0.002, "S": 0.003,
                      "Cl": 0.001, "K": 0.004}),
    "adipose": (0.95, {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001}),
    "lung": (0.26, {"H": 0.103, "C": 0.105, "N": 0.031, "O": 0.749, "Na": 0.002, "P": 0.002, "S": 0.003,
                    "Cl": 0.003, "K": 0.002}),
    "cortical_bone": (1.92, {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103,
                             "S": 0.003, "Ca": 0.225}),
    "spongiosa": (1.18, {"H": 0.085, "C": 0.404, "N": 0.028, "O": 0.367, "Na": 0.001, "Mg": 0.001, "P": 0.034,
                         "S": 0.002, "Cl": 0.002, "K": 0.001, "Ca": 0.074, "Fe": 0.001}),
    "enamel": _mixture(0.96, 0.01, 0.03, 2.95),
    "dentine": _mixture(0.70, 0.20, 0.10, 2.14),
}  # fmt: skip


def _spectrum(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energies (keV), photon fluence in each and the bin of each."""
    from spekpy import Spek

    kv, angle, filters = SETTINGS[name]
    tube = Spek(kvp=kv, th=angle, dk=0.5)
    tube.multi_filter(filters)
    energy, fluence = tube.get_spectrum(edges=False)
    signal = np.cumsum(energy * fluence)
    return energy, fluence, np.minimum((signal / signal[-1] * BINS).astype(int), BINS - 1)


def main() -> None:
    """Write both tables into lib/published."""
    from xraydb import mu_elam

    rows = []
    for name in SETTINGS:
        energy, fluence, bins = _spectrum(name)
        mass = {
            material: sum(share * mu_elam(element, energy * 1000) for element, share in shares.items())
            for material, (_, shares) in COMPOSITIONS.items()
        }
        for number in range(BINS):
            chosen = bins == number
            weight = fluence[chosen]
            row = {
                "beam": name,
                "energy_kev": np.average(energy[chosen], weights=weight),
                "photons": weight.sum() / fluence.sum(),
            }
            rows.append(row | {m: np.average(values[chosen], weights=weight) for m, values in mass.items()})
    table = pd.DataFrame(rows)
    densities = pd.DataFrame({"material": list(COMPOSITIONS), "g_cm3": [d for d, _ in COMPOSITIONS.values()]})
    for stem, frame in (("xray_beams", table), ("xray_densities", densities)):
        with atomic_path(ROOT / "lib" / "published" / f"{stem}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
