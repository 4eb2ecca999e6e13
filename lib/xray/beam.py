"""X-ray beams: how much signal of a polychromatic beam is left behind a patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from lib.files import ROOT

BASIS = ("water", "hydroxyapatite")
TISSUES = ("muscle", "adipose", "lung", "cortical_bone", "spongiosa", "enamel", "dentine")


@cache
def _tables() -> tuple[pd.DataFrame, pd.Series]:
    folder = ROOT / "lib" / "published"
    beams = pd.read_csv(folder / "xray_beams.csv").set_index("beam")
    return beams, pd.read_csv(folder / "xray_densities.csv").set_index("material")["g_cm3"]


@dataclass(frozen=True, eq=False)
class Beam:
    """A spectrum in a few bins, with mass attenuation coefficients of the materials that it meets.

    Attributes
    ----------
    energy_kev, photons : float array (bins,)
        Mean energy of each bin and its share of the photons.
    mass_attenuation : DataFrame
        cm2/g, a column for each material.

    Notes
    -----
    Tables: `lib.xray.make_beam_tables` (SpekPy, XrayDB).
    """

    energy_kev: np.ndarray
    photons: np.ndarray
    mass_attenuation: pd.DataFrame

    @property
    def signal(self) -> np.ndarray:
        """Share of each bin in the signal of an energy-integrating detector that absorbs every photon."""
        weight = self.photons * self.energy_kev
        return weight / weight.sum()

    @property
    def swank(self) -> float:
        """Mean squared over mean of squares of the energy that a photon leaves: 1 for a single energy.

        The noise of n photons of mixed energies is that of n times this number photons of one energy.
        """
        return float((self.photons @ self.energy_kev) ** 2 / (self.photons @ self.energy_kev**2))

    def transmission(self, thickness: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the share of the signal that passes, (...) float32.

        Parameters
        ----------
        thickness : mapping of str to array (...)
            Mass thickness in g/cm2 along each ray, by material.

        Notes
        -----
        Beer-Lambert for each bin: sum_k s_k exp(-sum_m mu_mk t_m), s_k the share of the signal.
        """
        unknown = set(thickness) - set(self.mass_attenuation)
        if unknown:
            known = ", ".join(self.mass_attenuation)
            raise ValueError(f"no attenuation is known for {', '.join(sorted(unknown))}; there are {known}.")
        arrays = {name: np.asarray(t, np.float32) for name, t in thickness.items()}
        total = 0
        for k, share in enumerate(self.signal):
            line = sum(np.float32(self.mass_attenuation[name].iloc[k]) * t for name, t in arrays.items())
            total = total + np.float32(share) * np.exp(-line)
        return total


@cache
def beam(name: str) -> Beam:
    """Return the beam "chest" (120 kV, 3 mm Al and .1 mm Cu) or "dental" (65 kV, 2 mm Al)."""
    beams, _ = _tables()
    if name not in beams.index:
        raise ValueError(f"beam {name!r} is not known: choose one of {', '.join(beams.index.unique())}.")
    rows = beams.loc[name].reset_index(drop=True)
    attenuation = rows.drop(columns=["energy_kev", "photons"])
    return Beam(rows["energy_kev"].to_numpy(), rows["photons"].to_numpy() / rows["photons"].sum(), attenuation)


def density(material: str) -> float:
    """Return the density of a material, g/cm3."""
    return float(_tables()[1][material])


@cache
def in_basis(tissue: str) -> tuple[float, float]:
    """Return a tissue as grams of water and of hydroxyapatite per cm3 of it.

    Parameters
    ----------
    tissue : str
        One of `TISSUES`.

    Notes
    -----
    Photoelectric absorption and scattering vary with energy in nearly the same two ways in all tissues without an
    absorption edge, so two materials stand for any (Alvarez and Macovski, Phys Med Biol 1976;21:733). Least squares of
    the relative error over both beams; fat takes a negative amount of mineral.
    """
    beams, densities = _tables()
    wanted = beams[tissue].to_numpy() * densities[tissue]
    basis = beams[list(BASIS)].to_numpy()
    weights, *_ = np.linalg.lstsq(basis / wanted[:, None], np.ones(len(wanted)), rcond=None)
    return float(weights[0]), float(weights[1])
