"""Kinetics of iodine after an intravenous injection: Bae's compartments, and a tubular model of the kidney."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm

HU_PER_MG_ML = 25.0
ORGANS = (
    "aorta",
    "renal_vein",
    "vena_cava_below",
    "vena_cava_renal",
    "portal_vein",
    "hepatic_vein",
    "liver",
    "spleen",
    "pancreas",
    "bowel_wall",
    "muscle",
    "cortex",
    "medulla",
)


@dataclass(frozen=True)
class Subject:
    """The properties of a patient that decide the circulation.

    Attributes
    ----------
    sex : {"F", "M"}
    age : float
        Years.
    height_m, weight_kg : float
    output_factor : float
        Cardiac output relative to the value expected from height and weight.
    renal_factor : float
        Glomerular filtration relative to that of a healthy adult.
    blood_factor, space_factor : float
        Blood volume, and extracellular volume of all organs, relative to the values expected from height and weight.
    """

    sex: str = "M"
    age: float = 40.0
    height_m: float = 1.73
    weight_kg: float = 70.0
    output_factor: float = 1.0
    renal_factor: float = 1.0
    blood_factor: float = 1.0
    space_factor: float = 1.0

    @property
    def size(self) -> float:
        """Return :math:`H^{0.725} W^{0.425}` (inches, pounds), which scales blood volume and cardiac output."""
        return (self.height_m / 0.0254) ** 0.725 * (self.weight_kg / 0.4536) ** 0.425

    @property
    def cardiac_output(self) -> float:
        """Return the cardiac output, mL/s."""
        return 36.36 * self.size / 60 * self.output_factor

    @property
    def blood_volume(self) -> float:
        """Return the blood volume, mL."""
        expected = 34.85 * self.size - 1954 if self.sex == "F" else 33.164 * self.size - 1229
        return expected * self.blood_factor


@dataclass(frozen=True)
class Injection:
    """A contrast injection: iodine mass (g), concentration (mg I/mL) and rate (mL/s)."""

    iodine_g: float = 42.0
    concentration: float = 300.0
    rate: float = 4.0

    @property
    def duration(self) -> float:
        """Return the duration, s."""
        return self.iodine_g * 1000 / self.concentration / self.rate


@dataclass(frozen=True)
class Circulation:
    """Constants that were fitted to published enhancement; the tests check the targets.

    Attributes
    ----------
    central : float
        Factor on Bae's volumes from the right heart to the abdominal aorta.
    delay : float
        Delay of arrival, s, which well-mixed compartments do not have.
    exchange, exchange_muscle : float
        Ratio of permeability-surface product to flow, in the viscera and in muscle.
    deep_share : float
        Share of the contrast medium that passes slowly through deep veins of the arm.
    injection_vein_ml, ..., cava_renal_ml : float
        Volumes of vessels in an adult of 70 kg, mL.
    cortex_flow : float
        Renal plasma flow, mL/s per mL of kidney.
    extraction : float
        Share of the renal plasma flow that is filtered.
    medullary_flow : float
        Share of the blood flow that passes through the medulla.
    glomerular_s, ..., duct_s : float
        Mean transit times of the kidney's compartments, s.
    cortex_share : float
        Share of the cortex in the parenchyma.
    haematocrit : float
    liver_ml, spleen_ml, bowel_ml : float
        Volume of tissue over which the iodine of the organ is spread, mL.
    pancreas_blood, pancreas_spleen : float
        Enhancement of the pancreas as a weighted sum: weights of the aorta and of the spleen.
    muscle_blood, muscle_space : float
        Blood and extracellular space of the muscle of the trunk, as shares of its volume.

    Notes
    -----
    The constants solve one weighted least-squares problem, in which each difference is divided by its published SD. It
    has three targets:

    - the mean HU of thirteen tissues in four phases, in 28 patients drawn like those of the cohort, at five scan times
      per phase,
    - Goshima et al. (Eur J Radiol 2007;63:420): 0.6 g of iodine per kilogram, 62 kg, 300 mg/mL at 4 mL/s,
    - the peak of the aorta by cardiac output in a flow phantom.

    About 62 s after the injection the sources contradict each other. Cortex and medulla differ by less than 30 HU
    (Goshima) or by 50 HU (HU by phase, at three quarters of the dose). The kidney follows the second source, which
    public slices resemble.

    These constants lie at the bounds that they were given: `exchange`, `exchange_muscle`, `delay`, the volumes of both
    arm veins, leg artery, hepatic vein, renal vein and renal cava, `cortex_flow`, `extraction`, `distal_s` and
    `duct_s`. As a result 0.29 mL/min of plasma are filtered per mL of kidney; Tsushima 1999 measured 0.49 ± 0.11.
    """

    central: float = 0.468
    delay: float = 12.0
    exchange: float = 6.0
    exchange_muscle: float = 0.75
    deep_share: float = 0.144
    injection_vein_ml: float = 8.0
    deep_vein_ml: float = 200.0
    leg_vein_ml: float = 497.0
    portal_ml: float = 191.0
    mesenteric_ml: float = 58.7
    leg_artery_ml: float = 300.0
    hepatic_ml: float = 400.0
    renal_vein_ml: float = 150.0
    cava_below_ml: float = 480.0
    cava_renal_ml: float = 300.0
    cortex_flow: float = 0.068
    extraction: float = 0.07
    medullary_flow: float = 0.105
    glomerular_s: float = 1.65
    venous_s: float = 1.52
    vasa_recta_s: float = 4.89
    proximal_s: float = 32.3
    loop_s: float = 20.0
    distal_s: float = 20.0
    duct_s: float = 20.0
    cortex_share: float = 0.68
    haematocrit: float = 0.45
    liver_ml: float = 1580.0
    spleen_ml: float = 279.0
    bowel_ml: float = 1330.0
    pancreas_blood: float = 0.102
    pancreas_spleen: float = 0.529
    muscle_blood: float = 0.06
    muscle_space: float = 0.345


CIRCULATION = Circulation()
_LIVER = ("periportal", "midzonal", "perivenous")  # zones of the acini, in the order of flow
# Flow (mL/min of a cardiac output of 6500), intravascular and extracellular volume (mL of a 70-kg adult).
_ORGAN = {
    "lung": (6500, 150, 144),
    "coronary": (260, 10, 103),
    "bronchial": (130, 5, 144),
    "head": (975, 37 + 80, 484),
    "arms": (325, 12, 2751),
    "stomach_spleen": (495, 19, 119),
    "intestine": (935, 35, 547),
    **dict.fromkeys(_LIVER, (1885, 71 / 3, 524 / 3)),
    "kidney": (1430, 54, 89),
    "legs": (1495, 57, 11002),
}
_VESSEL_ML = {  # of a 70-kg adult
    "right_heart": 180,
    "pulmonary_artery": 130,
    "pulmonary_vein": 160,
    "left_heart": 180,
    "ascending_aorta": 100,
    "descending_aorta": 100,
    "abdominal_aorta": 100,
    "cava": 700,
}
_FITTED_ML = {  # vessels whose volume is a constant of `Circulation`
    "antecubital": "injection_vein_ml",
    "deep_arm_vein": "deep_vein_ml",
    "leg_artery": "leg_artery_ml",
    "leg_vein": "leg_vein_ml",
    "mesenteric_vein": "mesenteric_ml",
    "mesenteric_trunk": "mesenteric_ml",
    "portal_vein": "portal_ml",
    "hepatic_vein": "hepatic_ml",
    "renal_vein": "renal_vein_ml",
    "cava_below": "cava_below_ml",
    "cava_renal": "cava_renal_ml",
}
_FEEDS = (  # from, to, flow mL/min
    ("antecubital", "right_heart", 162), ("deep_arm_vein", "right_heart", 163), ("head", "right_heart", 975),
    ("coronary", "right_heart", 260), ("bronchial", "right_heart", 130), ("cava", "right_heart", 4810),
    ("right_heart", "pulmonary_artery", 6500), ("pulmonary_artery", "lung", 6500), ("lung", "pulmonary_vein", 6500),
    ("pulmonary_vein", "left_heart", 6500), ("left_heart", "ascending_aorta", 6500),
    ("ascending_aorta", "coronary", 260), ("ascending_aorta", "head", 975), ("ascending_aorta", "arms", 325),
    ("arms", "antecubital", 162), ("arms", "deep_arm_vein", 163),
    ("ascending_aorta", "descending_aorta", 4940), ("descending_aorta", "bronchial", 130),
    ("descending_aorta", "abdominal_aorta", 4810), ("abdominal_aorta", "stomach_spleen", 495),
    ("abdominal_aorta", "intestine", 935), ("abdominal_aorta", "periportal", 455), ("abdominal_aorta", "kidney", 1430),
    ("abdominal_aorta", "leg_artery", 1495), ("leg_artery", "legs", 1495), ("stomach_spleen", "portal_vein", 495),
    ("intestine", "mesenteric_vein", 935), ("mesenteric_vein", "mesenteric_trunk", 935),
    ("mesenteric_trunk", "portal_vein", 935),
    ("portal_vein", "periportal", 1430), ("periportal", "midzonal", 1885), ("midzonal", "perivenous", 1885),
    ("perivenous", "hepatic_vein", 1885), ("hepatic_vein", "cava", 1885),
    ("kidney", "renal_vein", 1430), ("renal_vein", "cava_renal", 1430), ("legs", "leg_vein", 1495),
    ("leg_vein", "cava_below", 1495), ("cava_below", "cava_renal", 1495), ("cava_renal", "cava", 2925),
)  # fmt: skip
_KIDNEY = ("glomeruli", "venules", "vasa_recta", "proximal", "loop", "distal", "duct")


class Enhancement:
    """Enhancement of every organ over time after one injection: HU above the unenhanced value at 120 kVp."""

    def __init__(
        self,
        subject: Subject = Subject(),
        injection: Injection = Injection(),
        circulation: Circulation = CIRCULATION,
        *,
        end: float = 780.0,
        step: float = 1.0,
    ):
        matrix, source, volumes = system(subject, circulation)
        names = list(volumes)
        self.step, self.delay = step, circulation.delay / np.sqrt(subject.output_factor)
        block = np.zeros((len(names) + 1,) * 2)
        block[:-1, :-1], block[:-1, -1] = matrix, source
        advance = expm(block * step)  # exact for an injection that is constant within a step
        steps = int(end / step)
        state = np.zeros((steps + 1, len(names)))
        for k in range(steps):
            # Share of this step in which the pump runs, times its rate in mg/s.
            on = np.clip(injection.duration / step - k, 0, 1) * injection.rate * injection.concentration
            state[k + 1] = advance[:-1, :-1] @ state[k] + advance[:-1, -1] * on
        self.curves = _organ_curves(state, names, circulation, subject)

    def __call__(self, time: float) -> dict[str, float]:
        """Return the enhancement (HU) of every organ in `ORGANS` at a time (s) after the start of the injection."""
        position = (time - self.delay) / self.step
        grid = np.arange(len(next(iter(self.curves.values()))))
        return {name: float(np.interp(position, grid, curve, left=0.0)) for name, curve in self.curves.items()}

    def at(self, times: np.ndarray, organ: str) -> np.ndarray:
        """Return the enhancement of one organ (HU) at several times (s), float (n,)."""
        grid = np.arange(len(self.curves[organ]))
        return np.interp((np.asarray(times, float) - self.delay) / self.step, grid, self.curves[organ], left=0.0)


def system(subject: Subject, circulation: Circulation = CIRCULATION) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    r"""Return the linear system of the concentrations in all compartments.

    Returns
    -------
    matrix : float array (n, n), 1/s
    source : float array (n,), 1/mL
    volumes : dict of float
        Volumes in mL, with the compartments in the order of the matrix. "<organ>.ec" is the extracellular compartment
        of an organ. The compartments of the kidney's tubules have flow and transit time but no volume; theirs is 0.

    Notes
    -----
    With the concentrations :math:`C` (mg I/mL) and the injection rate :math:`u` (mg I/s), the system is
    :math:`\mathrm{d}C / \mathrm{d}t = A C + b u`. It follows Bae et al. (Radiology 1998;207:647). A vessel of volume
    :math:`V` and flow :math:`Q` obeys

    .. math:: V \frac{\mathrm{d}C}{\mathrm{d}t} = Q\, (C_\text{in} - C).

    Organs exchange :math:`PS\, (C_\text{iv} - C_\text{ec})` between their blood and their extracellular space, and the
    kidneys lose filtrate. Flows and most volumes are Bae's; `Circulation` holds those that were fitted.

    Two changes keep the bolus sharper than single well-mixed vessels would: the liver consists of three organs in
    series, and a share of the contrast medium enters through slow veins of the arm.

    Cortex and medulla follow a chain of seven compartments that is driven by the aorta (Zhang et al. 2008, PMC2735648).
    This chain decides their enhancement and returns nothing to the circulation.
    """
    names = [*_VESSEL_ML, *_FITTED_ML, *_ORGAN, *(f"{name}.ec" for name in _ORGAN), *_KIDNEY]
    at = {name: k for k, name in enumerate(names)}
    flow = subject.cardiac_output / 6500.0  # mL/s for each mL/min of the reference adult
    volume = subject.blood_volume / 4760.0
    tissue = subject.weight_kg / 70.0 * subject.space_factor
    size = dict.fromkeys(names, 1.0)
    for name, ml in _VESSEL_ML.items():
        size[name] = ml * volume * (1.0 if name == "cava" else circulation.central)
    size.update({name: getattr(circulation, field) * volume for name, field in _FITTED_ML.items()})
    for name, (_, inside, outside) in _ORGAN.items():
        size[name], size[f"{name}.ec"] = inside * volume, outside * tissue
    size["lung"] *= circulation.central
    matrix = np.zeros((len(names),) * 2)
    for origin, target, mlmin in _FEEDS:
        matrix[at[target], at[origin]] += mlmin * flow / size[target]
        matrix[at[origin], at[origin]] -= mlmin * flow / size[origin]
    exchange = {"lung": 0.06, "head": 0.02, "legs": circulation.exchange_muscle, "arms": circulation.exchange_muscle}
    exchange |= dict.fromkeys(_LIVER, circulation.exchange / len(_LIVER))
    for name, (mlmin, _, _) in _ORGAN.items():
        ps = exchange.get(name, circulation.exchange) * mlmin * flow
        inside, outside = at[name], at[f"{name}.ec"]
        matrix[inside, inside] -= ps / size[name]
        matrix[inside, outside] += ps / size[name]
        matrix[outside, inside] += ps / size[f"{name}.ec"]
        matrix[outside, outside] -= ps / size[f"{name}.ec"]
    plasma = 1430 * flow * (1 - circulation.haematocrit)
    matrix[at["kidney"], at["kidney"]] -= 0.19 * subject.renal_factor * plasma / size["kidney"]
    transit = (circulation.glomerular_s, circulation.venous_s, circulation.vasa_recta_s, circulation.proximal_s,
               circulation.loop_s, circulation.distal_s, circulation.duct_s)  # fmt: skip
    # Perfusion follows cardiac output less than in proportion; transit times lengthen as it falls.
    slow = subject.output_factor**-0.5
    feeders = ("abdominal_aorta", "glomeruli", "glomeruli", "glomeruli", "proximal", "loop", "distal")
    for name, feeder, seconds in zip(_KIDNEY, feeders, transit, strict=True):
        matrix[at[name], at[name]] -= 1 / (seconds * slow)
        matrix[at[name], at[feeder]] += 1 / (seconds * slow)
    source = np.zeros(len(names))
    for name, share in (("antecubital", 1 - circulation.deep_share), ("deep_arm_vein", circulation.deep_share)):
        source[at[name]] = share / size[name]
    return matrix, source, size | dict.fromkeys(_KIDNEY, 0.0)


def _organ_curves(state: np.ndarray, names: list[str], c: Circulation, subject: Subject) -> dict[str, np.ndarray]:
    column = {name: state[:, k] for k, name in enumerate(names)}

    def mean(organ: str, total_ml: float) -> np.ndarray:
        _, inside, outside = _ORGAN[organ]
        return (inside * column[organ] + outside * column[f"{organ}.ec"]) / total_ml

    spleen = mean("stomach_spleen", c.spleen_ml)
    # Transit times are longer at low output and flow smaller: their product, the volume that holds iodine, is the same.
    plasma = c.cortex_flow / (1 - c.haematocrit)  # plasma carries all iodine of the blood
    passed, filtered = plasma * (1 - c.extraction), plasma * c.extraction * subject.renal_factor
    cortex = (
        plasma * c.glomerular_s * column["glomeruli"]
        + passed * (1 - c.medullary_flow) * c.venous_s * column["venules"]
        + filtered * (c.proximal_s * column["proximal"] + c.distal_s * column["distal"])
    ) / c.cortex_share
    medulla = (
        passed * c.medullary_flow * c.vasa_recta_s * column["vasa_recta"]
        + filtered * (c.loop_s * column["loop"] + c.duct_s * column["duct"])
    ) / (1 - c.cortex_share)
    curves = {
        "aorta": column["abdominal_aorta"],
        "renal_vein": column["renal_vein"],
        "vena_cava_below": column["cava_below"],
        "vena_cava_renal": column["cava_renal"],
        "portal_vein": column["portal_vein"],
        "hepatic_vein": column["hepatic_vein"],
        "liver": sum(mean(zone, c.liver_ml) for zone in _LIVER),
        "spleen": spleen,
        "pancreas": c.pancreas_blood * column["abdominal_aorta"] + c.pancreas_spleen * spleen,
        "bowel_wall": mean("intestine", c.bowel_ml),
        "muscle": c.muscle_blood * column["legs"] + c.muscle_space * column["legs.ec"],
        "cortex": cortex,
        "medulla": medulla,
    }
    return {name: HU_PER_MG_ML * curves[name] for name in ORGANS}
