"""A simulated patient's chest radiograph, with or without pneumothorax, and the masks that belong to it."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from lib.xray.beam import beam, in_basis
from lib.xray.detector import Detector, Look, display, expose, scattered
from lib.xray.devices import Devices, draw_devices, draw_tube
from lib.xray.geometry import View, covered, draw_band, tube
from lib.xray.lung_vessels import draw_trees, lung_trees
from lib.xray.pneumothorax import Pneumothorax, draw_pneumothorax, move_points
from lib.xray.skeleton import Bone, draw_ribs, draw_shoulders, draw_spine
from lib.xray.thorax import (
    SIDES,
    Dome,
    Ellipsoid,
    Habitus,
    Hemithorax,
    airways,
    body_chord,
    draw_habitus,
    lung_of,
    mediastinum,
)  # fmt: skip


@dataclass(frozen=True)
class Radiograph:
    """An image and what is true of it.

    Attributes
    ----------
    grey : float32 array (n, n)
        Display values, 0 black to 1 white.
    gap : bool array (n, n)
        Rays through pleural air and no lung: what readers outline as pneumothorax.
    air : bool array (n, n)
        Rays through any pleural air.
    lungs : bool array (n, n)
        Rays through a pleural cavity.
    tube : bool array (n, n)
        Rays through a chest tube.
    facts : dict
        Side, sizes and shares: a row of a table.
    """

    grey: np.ndarray
    gap: np.ndarray
    air: np.ndarray
    lungs: np.ndarray
    tube: np.ndarray
    facts: dict


class Chest:
    """A patient drawn from a seed; each part has its own generator, so that one part does not disturb another.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.habitus: Habitus = draw_habitus(self._rng("habitus"))
        self.devices: Devices = draw_devices(self._rng("devices"), self.habitus)
        self.pneumothorax: Pneumothorax = draw_pneumothorax(self._rng("pneumothorax"))
        rng = self._rng("look")
        self.detector = Detector(quanta_per_mm2=float(7.0e5 * np.exp(rng.normal(0, 0.35))))
        self.look = Look(
            compress=rng.uniform(0.54, 0.70), boost=rng.uniform(0.5, 1.1), contrast=float(np.exp(rng.normal(0, 0.08)))
        )
        self.lung_density = float(np.clip(rng.normal(0.20, 0.025), 0.14, 0.27))
        self._held: dict[tuple[View, bool], tuple[dict, dict]] = {}  # for the next image of the same body

    def _rng(self, *names: object) -> np.random.Generator:
        return np.random.default_rng([self.seed, *(zlib.crc32(str(name).encode()) for name in names)])

    def radiograph(
        self, pixels: int = 512, *, pneumothorax: bool = False, chest_tube: bool = False, oversample: int = 1
    ) -> Radiograph:
        """Return the radiograph.

        Parameters
        ----------
        pixels : int
            Rows and columns.
        pneumothorax : bool
            Whether air is in the pleural cavity; all else stays the same: the same patient, positioning and noise
            fields, so that two calls are a counterfactual pair.
        chest_tube : bool
            Whether a chest tube lies on the side of the pneumothorax (of the one that there would be).
        oversample : int
            Rays across a pixel.
        """
        view = View(pixels * oversample)
        if (view, pneumothorax) not in self._held:
            self._held = {(view, pneumothorax): self.line_integrals(view, pneumothorax)}
        thickness, soft = self._held[view, pneumothorax]
        thickness = {material: line.copy() for material, line in thickness.items()}
        tube_chord = np.zeros((view.pixels, view.pixels), np.float32)
        self.devices.draw(view, thickness)
        if chest_tube:
            tube_chord = draw_tube(view, self.pneumothorax.side, self.habitus, self._rng("tube"), thickness)
        spectrum = beam("chest")
        primary = _reduce(spectrum.transmission(thickness), oversample)
        tissue = _reduce(thickness["water"] + 1.6 * thickness["hydroxyapatite"], oversample)
        pixel = 400.0 / pixels
        scatter = scattered(primary, tissue, pixel)
        signal = expose(primary, scatter, spectrum, self.detector, pixel, self._rng("noise"))
        body = tissue > 0.8
        grey = display(signal, body, pixel, self.look)
        masks = {name: _reduce(value.astype(np.float32), oversample) >= 0.5 for name, value in soft["masks"].items()}
        masks["tube"] = _reduce((tube_chord > 0.2).astype(np.float32), oversample) >= 0.5
        facts = self._facts(soft, masks, pneumothorax, chest_tube)
        return Radiograph(grey, masks["gap"], masks["air"], masks["lungs"], masks["tube"], facts)

    def truth(self, pixels: int) -> dict:
        """Return masks and the lost share of lung volume of the patient's pneumothorax, without making an image."""
        return self.line_integrals(View(pixels), True)[1]

    def _facts(self, soft: dict, masks: dict, pneumothorax: bool, chest_tube: bool) -> dict:
        case, gap = self.pneumothorax, self.pneumothorax.gap
        sizes = (gap.apex, gap.middle, gap.base) if pneumothorax else (0.0, 0.0, 0.0)
        return {
            "seed": self.seed,
            "pneumothorax": pneumothorax,
            "side": {1: "left", -1: "right"}[case.side] if pneumothorax else "",
            **{
                f"{name}_mm": round(float(value), 1)
                for name, value in zip(("apex", "middle", "base"), sizes, strict=True)
            },
            "volume_percent": round(100 * soft["lost"], 2),
            "gap_share": float(masks["gap"].mean()),
            "chest_tube": chest_tube,
            "female": self.habitus.female,
            "age": round(self.habitus.age, 1),
        }

    def line_integrals(self, view: View, pneumothorax: bool) -> tuple[dict[str, np.ndarray], dict]:
        """Return g/cm2 of each material along the rays, and masks and volumes of lungs and air."""
        habitus, case = self.habitus, self.pneumothorax
        push = 2.0 - case.side * case.shift if pneumothorax else 2.0
        bodies = mediastinum(habitus, push)
        domes = [Dome(habitus, side, case.lowered if pneumothorax and side == case.side else 0.0) for side in SIDES]
        intervals = [body.interval(view) for body in (*bodies, *domes)]
        shape = (view.pixels, view.pixels)
        lung, cavity = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        masks = {"gap": np.zeros(shape, bool), "air": np.zeros(shape, bool)}
        pleura, aerated, lost = np.zeros(shape, np.float32), np.zeros(shape, np.float32), 0.0
        vessels = np.zeros(shape, np.float32)
        middle = view.pixels // 2 + round(4 / view.pixel_mm)
        for side in SIDES:
            half = slice(view.pixels - middle, None) if side > 0 else slice(0, middle)
            solid = [(low[:, half], high[:, half]) for low, high in intervals]
            space = Hemithorax(habitus, side)
            place = slice(None), half

            def length(body, place=place, solid=solid):
                low, high = (edge[place] for edge in body.interval(view))
                return np.maximum(high - low, 0) - covered((low, high), solid)

            open_ = length(space)
            cavity[place] += open_
            trees = lung_trees(space, bodies, self._rng("vessels", side), push)
            if pneumothorax and side == case.side:
                collapsed = lung_of(space, case.gap)
                left = np.minimum(length(collapsed), open_)
                skin = left - np.minimum(length(lung_of(space, case.gap, inset=case.line_mm)), left)
                pleura[place] += skin
                ratio = float(left.sum() / open_.sum())
                lost = 1 - ratio
                masks["gap"][place] |= (left < 0.5) & (open_ > 6)
                masks["air"][place] |= open_ - left > 1.0
                aerated[place] += left / ratio  # the same tissue in less room
                vessels += draw_trees(
                    view, trees, lambda points, lung=collapsed, space=space: move_points(points, space, lung)
                )
            else:
                left = open_
                aerated[place] += left
                vessels += draw_trees(view, trees)
            lung[place] += left
        masks["lungs"] = cavity > 1
        muscle, adipose, lung_unit = in_basis("muscle"), in_basis("adipose"), in_basis("lung")
        body = body_chord(view, habitus, fat=True)
        lean = np.minimum(body_chord(view, habitus, fat=False), body)
        air = np.zeros(shape, np.float32)
        for line, radii in airways(habitus, push):
            window, chord, _ = draw_band(view, tube(view, line, radii), ends=True)
            air[window] = np.maximum(air[window], chord)
        air += self._stomach(view, domes[1])
        shell = 0.35 * np.sqrt(np.maximum(lung, 0) / 100)  # a little fat and fascia between muscles: uneven grey
        texture = self._texture(view)
        parenchyma = self.lung_density / 0.26 * aerated * texture
        flesh = np.maximum(lean - cavity - air, 0) + vessels * (lung > 1) + pleura + shell
        flesh += (body > 20) * 1.6 * self._muscles(view)
        fat = body - lean
        breast, gland = self._breasts(view)
        bone = Bone.empty(view)
        draw_spine(view, habitus, bone)
        draw_ribs(view, habitus, self._rng("ribs"), bone)
        draw_shoulders(view, habitus, self._rng("shoulders"), bone)
        quality = float(np.interp(habitus.age, [30, 85], [1.0, 0.72])) * (0.94 if habitus.female else 1.0)
        minerals = bone.thickness(quality)
        parts = ((muscle, flesh + gland), (adipose, fat + breast), (lung_unit, parenchyma))
        water = 0.1 * sum(unit[0] * chord for unit, chord in parts) + minerals["water"]
        mineral = 0.1 * sum(unit[1] * chord for unit, chord in parts) + minerals["hydroxyapatite"]
        return {"water": np.maximum(water, 0), "hydroxyapatite": mineral}, {"masks": masks, "lost": lost}

    def _stomach(self, view: View, dome: Dome) -> np.ndarray:
        """Return the chord of gas under the left dome, with a level: the patient stands."""
        habitus = self.habitus
        if habitus.stomach < 0.25:
            return np.zeros((view.pixels, view.pixels), np.float32)
        size = 0.6 + 0.6 * habitus.stomach
        summit = habitus.dome[1] - dome.lowered
        bubble = Ellipsoid((58.0 * habitus.scale, 12, summit - 6 - 18 * size), (32 * size, 30 * size, 17 * size), 0.25)
        low, high = bubble.interval(view)
        level = summit - 6 - 22 * size
        return ((high - low) * expit((view.plane(12.0)[1] - level) / 0.6)).astype(np.float32)

    def _breasts(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Return the chords of fat and of gland in the breasts."""
        habitus = self.habitus
        total = np.zeros((view.pixels, view.pixels), np.float32)
        if not habitus.female:
            return total, total
        rng, size = self._rng("breasts"), habitus.breast
        for side in SIDES:
            x, z = view.plane(habitus.depth + 30.0)
            across = (x * side - (82 * habitus.scale + rng.normal(0, 3))) / (58 * size**0.4)
            down = z - (-62 - 14 * size + rng.normal(0, 5))
            reach = np.where(down > 0, 78.0, 40 * size**0.5)
            inside = np.maximum(1 - np.abs(across) ** 2.2 - np.abs(down / reach) ** 2, 0)
            profile = np.where(down > 0, inside**1.1, inside**0.55)
            total += (46 * size * profile).astype(np.float32)
        share = rng.uniform(0.2, 0.6) * (1 - 0.5 * (habitus.age > 50))
        return total * (1 - share), total * share

    def _texture(self, view: View) -> np.ndarray:
        """Return the uneven density of lung tissue, mean about 1, (n, n): the same on every grid."""
        rng, total = self._rng("texture"), 1.0
        for size_mm, amount in ((1.6, 0.05), (4.0, 0.045), (14.0, 0.05)):
            total = total + amount * _noise(rng, view, size_mm)
        return total.astype(np.float32) if isinstance(total, np.ndarray) else total

    def _muscles(self, view: View) -> np.ndarray:
        """Return the unevenness of muscle and fat, SD 1, (n, n)."""
        rng = self._rng("muscles")
        return 0.6 * _noise(rng, view, 9.0) + 0.4 * _noise(rng, view, 3.0)


def _noise(rng: np.random.Generator, view: View, size_mm: float) -> np.ndarray:
    """Return smooth noise of SD 1 and a grain of `size_mm`, drawn on a grid that does not depend on the pixels."""
    from scipy.ndimage import zoom

    cells = int(np.ceil(view.side_mm / (0.7 * size_mm)))
    field = gaussian_filter(rng.standard_normal((cells, cells), dtype=np.float32), 0.7)
    field = (field - field.mean()) / field.std()
    return zoom(field, view.pixels / cells, order=1, grid_mode=True, mode="nearest")[: view.pixels, : view.pixels]


def _reduce(image: np.ndarray, times: int) -> np.ndarray:
    """Return the mean over squares of `times` x `times` pixels."""
    if times == 1:
        return image
    n = image.shape[0] // times
    return image.reshape(n, times, n, times).mean((1, 3))


def with_size(chest: Chest, size: float) -> Chest:
    """Return the same patient with a pneumothorax whose gaps are `size` times as wide."""
    other = Chest(chest.seed)
    other.pneumothorax = replace(chest.pneumothorax, gap=chest.pneumothorax.scaled(size))
    return other
