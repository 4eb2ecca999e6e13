"""Blood, tissue and urine of one patient: the HU of every tissue at a time after the injection."""

import numpy as np

from lib.phantom.kinetics import Enhancement, Injection, Subject
from lib.phantom.tissues import (
    BLANKET,
    CHYME,
    FASCIA,
    INTRAMUSCULAR_FAT,
    PAINTS,
    RIB_MARROW,
    TABLE,
    THECAL_SAC,
    TUMOUR_NECROSIS,
    URETER,
    Tissue,
)

URINE_CEILING = 3071.0
# Volumes of contrast medium that some hospitals give to every patient: mL, mg I/mL.
FIXED_VOLUMES = ((100.0, 350.0), (100.0, 370.0), (120.0, 300.0), (120.0, 350.0), (150.0, 300.0))
# Unenhanced HU at 120 kVp: mean and SD between patients.
_BASELINE = {
    Tissue.OUTSIDE: (-1000, 0), Tissue.SKIN: (20, 8), Tissue.SUBCUTANEOUS_FAT: (-105, 6), Tissue.MUSCLE: (51, 5),
    Tissue.CORTICAL_BONE: (720, 90), Tissue.DISC: (80, 12), Tissue.SPINAL_CANAL: (-20, 12), THECAL_SAC: (20, 7),
    Tissue.VISCERAL_FAT: (-100, 7), Tissue.SINUS_FAT: (-98, 8), Tissue.RENAL_CORTEX: (31, 3.5),
    Tissue.RENAL_CYST: (8, 5), Tissue.LIVER: (56, 8), Tissue.GALLBLADDER: (12, 7), Tissue.SPLEEN: (46, 5),
    Tissue.PANCREAS: (42, 6), Tissue.BOWEL_WALL: (36, 4), Tissue.BOWEL_FLUID: (18, 7), Tissue.BOWEL_GAS: (-930, 15),
    Tissue.STOOL: (10, 15), Tissue.CALCIFICATION: (650, 120), Tissue.ADRENAL: (18, 8), Tissue.URINE: (5, 6),
    TABLE: (120, 90), BLANKET: (-880, 30), FASCIA: (-10, 12), INTRAMUSCULAR_FAT: (-55, 10), RIB_MARROW: (150, 45),
    TUMOUR_NECROSIS: (22, 6),
}  # fmt: skip


class Physiology:
    """Circulation, injection, urine and unenhanced HU of a patient, drawn once and used for all scans of the patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    """

    def __init__(self, rng: np.random.Generator):
        self.subject = draw_subject(rng)
        self.injection = draw_injection(rng, self.subject)
        self.enhancement = Enhancement(self.subject, self.injection)
        self.baseline = {code: rng.normal(mean, sd) for code, (mean, sd) in _BASELINE.items()}
        self.blood = rng.normal(42, 4)
        self.marrow = float(np.clip(226 - 2.5 * max(self.subject.age - 25, 0) + rng.normal(0, 32), 50, 300))
        # Organs enhance a little more or less than their blood supply predicts.
        self.uptake = {
            name: rng.lognormal(0, 0.06) for name in ("kidney", "liver", "spleen", "pancreas", "bowel", "muscle")
        }
        self.chyme = [
            (0.0, rng.normal(8, 5)),
            (0.25, rng.normal(25, 6)),
            (0.5, rng.normal(34, 6)),
            (0.75, rng.normal(38, 5)),
        ]
        self.oral_contrast = float(rng.uniform(150, 400))
        self.tumour_vascularity = float(rng.uniform(0.35, 0.9))
        renal = self.subject.renal_factor
        self.urine_onset = float(np.clip(110 + rng.gamma(2, 10) + 25 * (1 / renal - 1), 110, 200))
        self.urine_rise = float(rng.uniform(45, 90))
        self.urine_plateau = float(np.exp(rng.normal(np.log(1100), 0.45)) * renal)

    def urine(self, time: float | None) -> float:
        r"""Return the enhancement of urine in the calyces, HU.

        Notes
        -----
        It is 0 until the onset :math:`t_0`. Then, with the plateau :math:`U` and the time constant :math:`\tau`,

        .. math:: U \tanh^2 \frac{t - t_0}{\tau}.
        """
        if time is None or time < self.urine_onset:
            return 0.0
        rise = np.tanh((time - self.urine_onset) / self.urine_rise) ** 2
        return float(self.urine_plateau * rise)

    def hounsfield(self, time: float | None, kvp: float = 120.0) -> np.ndarray:
        """Return the HU of every paint code, float (64,).

        Parameters
        ----------
        time : float or None
            Seconds after the start of the injection; None before it.
        kvp : float
            Tube voltage (`iodine_gain`).
        """
        gain = iodine_gain(kvp)
        rise = dict.fromkeys(self.enhancement.curves, 0.0) if time is None else self.enhancement(time)
        rise = {name: gain * value for name, value in rise.items()}
        hu = np.full(PAINTS, -1000.0)
        for code, value in self.baseline.items():
            hu[code] = value
        kidney, blood, base = self.uptake["kidney"], self.blood, self.baseline
        hu[Tissue.RENAL_CORTEX] = base[Tissue.RENAL_CORTEX] + kidney * rise["cortex"]
        hu[Tissue.RENAL_MEDULLA] = base[Tissue.RENAL_CORTEX] - 1 + kidney * rise["medulla"]
        hu[Tissue.RENAL_TUMOUR] = base[Tissue.RENAL_CORTEX] + self.tumour_vascularity * (
            0.5 * rise["cortex"] + 0.3 * rise["medulla"]
        )
        hu[Tissue.AORTA] = hu[Tissue.ARTERY] = blood + rise["aorta"]
        hu[Tissue.RENAL_VEIN] = blood + rise["renal_vein"]
        hu[Tissue.VENA_CAVA] = blood + rise["vena_cava_renal"]
        hu[Tissue.PORTAL_VEIN] = blood + rise["portal_vein"]
        hu[Tissue.HEPATIC_VEIN] = blood + rise["hepatic_vein"]
        for code, name, organ in (
            (Tissue.LIVER, "liver", "liver"), (Tissue.SPLEEN, "spleen", "spleen"),
            (Tissue.PANCREAS, "pancreas", "pancreas"), (Tissue.BOWEL_WALL, "bowel_wall", "bowel"),
            (Tissue.MUSCLE, "muscle", "muscle"), (Tissue.ADRENAL, "pancreas", "pancreas"),
        ):  # fmt: skip
            hu[code] = base[code] + self.uptake[organ] * rise[name]
        for code, (share, value) in zip(CHYME, self.chyme, strict=True):
            hu[code] = value + share * rise["bowel_wall"]
        hu[Tissue.SKIN] += rise["muscle"]
        hu[Tissue.TRABECULAR_BONE] = self.marrow + 0.12 * rise["portal_vein"]
        hu[RIB_MARROW] += 0.12 * rise["portal_vein"]
        hu[Tissue.ORAL_CONTRAST] = self.oral_contrast * gain
        hu[Tissue.URINE] = base[Tissue.URINE] + gain * self.urine(time)
        hu[URETER] = base[Tissue.URINE] + 0.8 * gain * self.urine(None if time is None else time - 15)
        return np.minimum(hu, URINE_CEILING).astype(np.float32)

    def vena_cava(self, time: float | None, kvp: float, share_renal: float) -> float:
        """Return the HU of the vena cava; a share of its blood (0 below, 1 above) comes from the renal veins."""
        if time is None:
            return self.blood
        rise = self.enhancement(time)
        mixed = (1 - share_renal) * rise["vena_cava_below"] + share_renal * rise["vena_cava_renal"]
        return float(self.blood + iodine_gain(kvp) * mixed)


def iodine_gain(kvp: float) -> float:
    """Return the enhancement by iodine relative to 120 kVp: 22 % more at 100 kVp, 12 % less at 140 kVp."""
    return float(np.interp(kvp, [80, 100, 120, 140], [1.58, 1.22, 1.0, 0.88]))


def draw_subject(rng: np.random.Generator) -> Subject:
    """Draw sex, age, height, weight, cardiac output and renal function of an adult who has a renal CT."""
    sex = "M" if rng.random() < 0.6 else "F"
    age = float(np.clip(rng.normal(60, 13.4), 20, 90))
    height = float(rng.normal(1.76, 0.07) if sex == "M" else rng.normal(1.63, 0.065))
    bmi = float(np.clip(27.5 * np.exp(rng.normal(0, 0.18)), 18, 45))
    # Cardiac output falls with age, and varies for reasons that are not in the DICOM header.
    output = float(np.clip(rng.normal(1.08 - 0.004 * (age - 40), 0.10), 0.6, 1.4))
    renal = float(np.clip(rng.normal(0.95 - 0.004 * (age - 40), 0.16), 0.35, 1.3))
    blood, space = rng.lognormal(0, 0.08), rng.lognormal(0, 0.12)  # larger volumes dilute the iodine
    return Subject(sex, age, height, bmi * height**2, output, renal, float(blood), float(space))


def draw_injection(rng: np.random.Generator, subject: Subject) -> Injection:
    """Draw the injection: iodine by weight within limits or a fixed volume, and the rate of the pump."""
    if rng.random() < 0.5:
        concentration = float(rng.choice([300.0, 350.0, 370.0]))
        iodine = float(np.clip(0.47 * subject.weight_kg, 28, 43))
    else:
        volume, concentration = FIXED_VOLUMES[rng.integers(len(FIXED_VOLUMES))]
        iodine = volume * concentration / 1000
    duration = float(np.clip(rng.normal(30, 4), 22, 38))
    return Injection(iodine, concentration, iodine * 1000 / concentration / duration)
